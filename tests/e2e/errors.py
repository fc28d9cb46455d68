"""What a scenario or its harness can say went wrong."""


class E2EError(Exception):
    """The harness cannot go on: the cluster, the images or the release are not as they must be."""


class Missed(AssertionError):
    """What a scenario waited for did not come in time."""


class Broken(AssertionError):
    """An invariant, or what users may expect, did not hold."""
