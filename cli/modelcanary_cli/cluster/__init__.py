"""The commands for a cluster: what runs there, what is decided, and what people say to it.

They read the API server and patch annotations of a ModelCanary; all else is the operator's. Only `api` knows the
`kubernetes` package, which takes a second to import: no other command waits for it.
"""
