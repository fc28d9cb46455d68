"""What to do next about one ModelCanary: pure, from facts to one step.

The operator observes, calls `planner.plan`, writes the status or applies the first action, and begins anew. Each
action is one idempotent write, so that a crash after any of them is only a state that the next look sees. Nothing
here knows Kubernetes' API, HTTP, or the time: what it needs of them is in `observed`.
"""
