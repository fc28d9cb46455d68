"""The garbage collector: kept away from what lives long, and in a live process watched, since it stops the event loop.

Each process calls it once, when all that it needs is there: `main` before it makes the others, which share what is
there by then. It must not know what the process does.
"""

import ctypes
import gc
import time

from modelcanary_sidecar.figures import Figures

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


def settle_watched(figures: Figures) -> None:
    """The same again; how long a look took at most is in the figures."""
    settle()
    began = 0.0

    def watch(phase: str, _: dict[str, int]) -> None:
        nonlocal began
        if phase == "start":
            began = time.perf_counter()
        else:
            figures.collections += 1
            figures.collector_pause = max(figures.collector_pause, time.perf_counter() - began)

    gc.callbacks.append(watch)
