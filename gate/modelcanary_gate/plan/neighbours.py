"""The user's own objects around the model: autoscalers and NetworkPolicies, kept in step beside the baseline.

Called by the parts of the plan, each at the moment at which it matters. What is copied and how, the operator knows.
"""

from modelcanary_gate.plan.actions import (
    ApplyPolicy,
    CopyAutoscaler,
    DeleteAutoscaler,
    DeletePolicy,
    PauseAutoscaler,
    ResumeAutoscaler,
)
from modelcanary_gate.plan.context import Context, Plan
from modelcanary_gate.plan.observed import Policies


def autoscale(context: Context) -> Plan | None:
    """The user's autoscaler, copied to the baseline; None when it is.

    A HorizontalPodAutoscaler is idle where its target is at 0. KEDA would wake the target up, so it is paused, once the
    baseline has its copy.
    """
    autoscaler = context.observed.autoscaler
    if autoscaler is None:
        return context.act(DeleteAutoscaler()) if context.observed.autoscaler_copy else None
    if not autoscaler.copied:
        return context.make(CopyAutoscaler(autoscaler.name))
    if autoscaler.keda and not autoscaler.paused:
        return context.act(PauseAutoscaler(autoscaler.name, autoscaler.version))
    return None


def return_autoscaler(context: Context) -> Plan | None:
    """The user's autoscaler has the target again; None when it has."""
    autoscaler = context.observed.autoscaler
    if autoscaler is not None and autoscaler.paused:
        return context.act(ResumeAutoscaler(autoscaler.name, autoscaler.version))
    return context.act(DeleteAutoscaler()) if context.observed.autoscaler_copy else None


def admit_baseline(context: Context) -> Plan | None:
    """Whoever may reach the model may reach the sidecar before it; None when that is so."""
    return _in_step(context, context.observed.baseline_policies)


def admit_candidate(context: Context) -> Plan | None:
    """The candidate may what the baseline may; None when that is so. Before it has pods: they are never without."""
    return _in_step(context, context.observed.candidate_policies)


def _in_step(context: Context, policies: Policies) -> Plan | None:
    if policies.stale:
        name = policies.stale[0]
        version = policies.present.get(name)
        return context.act(ApplyPolicy(name, version)) if version else context.make(ApplyPolicy(name, None))
    return _delete(context, policies, policies.spare[0]) if policies.spare else None


def forget_candidate_policies(context: Context) -> Plan | None:
    """None when there are none, or while pods of the candidate still end under them."""
    return _forget(context, context.observed.candidate_policies) if not context.observed.candidate_pods else None


def forget_policies(context: Context) -> Plan | None:
    """All of ours; None when there are none."""
    observed = context.observed
    return _forget(context, observed.baseline_policies) or _forget(context, observed.candidate_policies)


def _forget(context: Context, policies: Policies) -> Plan | None:
    return _delete(context, policies, min(policies.present)) if policies.present else None


def _delete(context: Context, policies: Policies, name: str) -> Plan:
    return context.act(DeletePolicy(name, policies.present[name]))
