"""The garbage collector: kept away from what lives long.

Each process of ours calls it once, when all that it needs is there: `supervisor` before it makes the scorer, which
shares what is there by then. It must not know what the process does.
"""

import ctypes
import gc

#: Objects that were made and not freed between two looks: what a request or a pair leaves behind is freed without the
#: collector, so that looks are rare. The oldest are looked at in every two thousandth.
_YOUNG, _MIDDLE, _OLD = 50_000, 20, 100


def keep() -> None:
    """What is alive now is not looked at again, and what loading took for a while goes back to the system."""
    gc.collect()
    gc.freeze()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # glibc's
        trim(0)


def settle() -> None:
    """The same; from then on looks are rare."""
    keep()
    gc.set_threshold(_YOUNG, _MIDDLE, _OLD)
