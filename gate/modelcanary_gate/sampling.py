"""Which ids are mirrored, and which are answered by the candidate: the same answer wherever it is asked.

Sidecar and ledger both call it, so that a label outside the mirrored share is discarded without a look-up.
"""

from hashlib import blake2b

_SCALE = 2.0**-64


def position(request_id: str, salt: str = "") -> float:
    """Where an id falls in [0, 1), uniformly; an id is in a share when its position is below it.

    A salt (the run's id, for the canary weight) makes a choice independent of the unsalted one.
    """
    digest = blake2b(request_id.encode(), digest_size=8, person=salt.encode()[:16]).digest()
    return int.from_bytes(digest, "big") * _SCALE
