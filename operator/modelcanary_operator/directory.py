"""The list of endpoints as it is now: read at the start, and again whenever its file changes. Made by `main`."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from modelcanary_operator.endpoints import Endpoints, read_endpoints
from modelcanary_operator.errors import EndpointsInvalid
from modelcanary_operator.metrics import Metrics

_log = logging.getLogger(__name__)
#: Seconds between two looks at the file; a mounted ConfigMap is a minute late anyhow.
_PERIOD = 5.0


class Directory:
    """A list that cannot be read is refused at the start; later the last good one goes on holding."""

    def __init__(self, path: Path | None, metrics: Metrics) -> None:
        """Raises EndpointsInvalid."""
        self._path = path
        self._metrics = metrics
        self._wrong = ""
        self.current = read_endpoints(path) if path is not None else Endpoints()
        self._metrics.endpoints(len(self.current.by_name), valid=True)

    async def watch(self, changed: Callable[[], None], period: float = _PERIOD) -> None:
        """Calls `changed` after each change; runs until it is cancelled."""
        while self._path is not None:
            await asyncio.sleep(period)
            if await asyncio.to_thread(self._read):
                changed()

    def _read(self) -> bool:
        """Whether the list is another one now."""
        if self._path is None:
            return False
        try:
            found = read_endpoints(self._path)
        except EndpointsInvalid as error:
            if str(error) != self._wrong:
                _log.error("the endpoints stay as they were: %s", error)
            self._wrong = str(error)
            self._metrics.endpoints(len(self.current.by_name), valid=False)
            return False
        self._wrong = ""
        self._metrics.endpoints(len(found.by_name), valid=True)
        if found == self.current:
            return False
        self.current = found
        _log.info("there are %d endpoints now: %s", len(found.by_name), ", ".join(sorted(found.by_name)))
        return True
