"""Whom the ledger's certificate must be of: a file of authorities, read anew when it is replaced.

`ledger_http` asks before each request. The operator has the same for its HTTP client: the parts import the gate alone,
and the gate does no I/O. It must not know what is sent.
"""

import ssl
import time
from collections.abc import Callable
from pathlib import Path

_LOOK_SECONDS = 1.0  # at most so often is the file looked at


class Trust:
    """Connections made since a replacement trust the new file's authorities and no others."""

    def __init__(self, url: str, authority: Path | None, clock: Callable[[], float] = time.monotonic) -> None:
        """Without a file, the system's authorities are trusted."""
        self._authority = authority
        self._clock = clock
        self._stamp: tuple[int, int] | None = None
        self._looked = float("-inf")
        self._tls = url.startswith("https://")
        self._now: ssl.SSLContext | None = None

    def context(self) -> ssl.SSLContext | None:
        """Another one than before if others are to be trusted; None for an address without TLS, which needs none of
        the authorities: they take megabytes. Raises OSError while there is nobody to be trusted.
        """
        if not self._tls:
            return None
        if self._authority is None:
            self._now = self._now or ssl.create_default_context()
            return self._now
        now = self._clock()
        if self._now is not None and now - self._looked < _LOOK_SECONDS:
            return self._now
        self._looked = now
        try:
            found = self._authority.stat()
            stamp = (found.st_mtime_ns, found.st_ino)
            if stamp != self._stamp:
                self._now = ssl.create_default_context(cafile=str(self._authority))
                self._stamp = stamp
        except OSError as error:  # ssl.SSLError is one
            if self._now is None:
                raise OSError(f"the authorities in {self._authority} cannot be read: {error}") from error
            # half of a replacement: the file is looked at again
        return self._now
