"""Whom the ledger's certificate must be of: a file of authorities, read anew when it is replaced.

A transport of `ledger_client`'s HTTP client. The operator has the same for itself: the parts import the gate alone,
and the gate does no I/O. It must not know what is sent.
"""

import ssl
import time
from collections.abc import Callable
from pathlib import Path

import httpx

_LOOK_SECONDS = 1.0  # at most so often is the file looked at


class Trust(httpx.AsyncBaseTransport):
    """Connections made since a replacement trust the new file's authorities and no others."""

    def __init__(
        self, url: str, authority: Path | None, limits: httpx.Limits, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Without a file, the authorities that come with the HTTP client are trusted."""
        self._authority = authority
        self._limits = limits
        self._clock = clock
        self._stamp: tuple[int, int] | None = None
        self._looked = float("-inf")
        self._retired: httpx.AsyncHTTPTransport | None = None  # its last answers may be under way
        self._now: httpx.AsyncHTTPTransport | None = None
        if authority is None:
            # An address without TLS needs none of the authorities, which take megabytes.
            self._now = self._transport(True if url.startswith("https://") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        transport = self._now if self._authority is None else await self._current(self._authority)
        if transport is None:
            raise httpx.ConnectError("no authority has been read yet")
        return await transport.handle_async_request(request)

    async def aclose(self) -> None:
        for transport in (self._now, self._retired):
            if transport is not None:
                await transport.aclose()

    async def _current(self, authority: Path) -> httpx.AsyncHTTPTransport | None:
        now = self._clock()
        if self._now is not None and now - self._looked < _LOOK_SECONDS:
            return self._now
        self._looked = now
        try:
            found = authority.stat()
            stamp = (found.st_mtime_ns, found.st_ino)
            if stamp == self._stamp:
                return self._now
            fresh = self._transport(ssl.create_default_context(cafile=str(authority)))
        except OSError as error:  # ssl.SSLError is one
            if self._now is None:
                raise httpx.ConnectError(f"the authorities in {authority} cannot be read: {error}") from error
            return self._now  # half of a replacement: the file is looked at again
        gone, self._retired, self._now, self._stamp = self._retired, self._now, fresh, stamp
        if gone is not None:
            await gone.aclose()
        return self._now

    def _transport(self, verify: ssl.SSLContext | bool) -> httpx.AsyncHTTPTransport:
        # The ledger is in the cluster: a proxy from the environment is never meant.
        return httpx.AsyncHTTPTransport(verify=verify, trust_env=False, limits=self._limits)
