"""When to look again: at each change that the API server tells of, and every few seconds for what it does not.

Called by `status --watch` and by what waits. A watch that breaks is begun again, ever more slowly while it breaks.
"""

import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from modelcanary_cli.cluster.api import Cluster
from modelcanary_cli.cluster.errors import ClusterError, RefusedError
from modelcanary_operator.api import CANARIES

#: Between two looks there is at least this long, however much happens.
_LEAST = 0.5
_LONGEST_PAUSE = 10.0


class Changes:
    """`wait` until something has changed, or a time has passed."""

    def __init__(self, cluster: Cluster, namespace: str, name: str = "") -> None:
        self._cluster, self._namespace, self._name = cluster, namespace, name
        self._news: queue.Queue[None] = queue.Queue(maxsize=1)
        self._stop = threading.Event()
        self._looked = 0.0

    def wait(self, longest: float) -> None:
        rest = self._looked + _LEAST - time.monotonic()
        if rest > 0:
            time.sleep(min(rest, max(0.0, longest)))
        with suppress(queue.Empty):
            self._news.get(timeout=max(0.01, longest))
        self._looked = time.monotonic()

    def run(self) -> None:
        """In a thread of its own, which ends with the process."""
        pause = 1.0
        while not self._stop.is_set():
            try:
                for _ in self._cluster.watch(CANARIES, self._namespace, self._name):
                    pause = 1.0
                    self._tell()
                    if self._stop.is_set():
                        return
                continue
            except ClusterError:
                self._tell()
            except RefusedError:  # may not watch: then it is looked at every few seconds
                return
            self._stop.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def stop(self) -> None:
        self._stop.set()

    def _tell(self) -> None:
        with suppress(queue.Full):  # then it is told already
            self._news.put_nowait(None)


@contextmanager
def changes(cluster: Cluster, namespace: str, name: str = "") -> Iterator[Changes]:
    found = Changes(cluster, namespace, name)
    threading.Thread(target=found.run, daemon=True).start()
    try:
        yield found
    finally:
        found.stop()
