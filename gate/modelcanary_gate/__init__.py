"""The decision core of ModelCanary: pure functions of evidence, specification and the caller's clock.

Everything else imports this package; it imports numpy and the standard library, and does no I/O.
"""
