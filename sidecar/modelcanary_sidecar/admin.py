"""The admin port: /healthz, /readyz, /metrics, and a drain on a path of its own. For probes, scrapers and hooks.

`supervisor` starts it. A request at a time per connection, each closed behind its answer; so many connections at a time
that whoever calls cannot make it large. It must not know how the live path does what it counts.
"""

import asyncio
import hmac
import logging
import socket
from collections.abc import Awaitable, Callable

_log = logging.getLogger(__name__)
_TIME_LIMIT = 5.0
_AT_A_TIME = 64  # connections; who comes when they are taken is cut off
_LONGEST_HEAD = 8 << 10
_REASONS = {200: "OK", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}


class Admin:
    """Answers on the admin port."""

    def __init__(
        self,
        metrics: Callable[[], bytes],
        ready: Callable[[], Awaitable[str | None]],
        drain_path: str,
        drain: Callable[[], Awaitable[str]],
    ) -> None:
        self._metrics = metrics
        self._ready = ready  # None, or why not
        self._drain_path = drain_path.encode("latin-1")
        self._drain = drain  # ends when the clients have left, or their time is up; says which
        self._answering = 0

    async def serve(self, listener: socket.socket) -> asyncio.Server:
        return await asyncio.start_server(self._meet, sock=listener, limit=_LONGEST_HEAD)

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._answering >= _AT_A_TIME:
            writer.transport.abort()
            return
        self._answering += 1
        try:
            await self._answer(reader, writer)
            writer.close()
            async with asyncio.timeout(_TIME_LIMIT):  # who does not read what is left has had it
                await writer.wait_closed()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            _log.debug("admin: no request, or nobody to answer: %r", error)
        finally:
            self._answering -= 1
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(_TIME_LIMIT):
            head = await reader.readuntil(b"\r\n\r\n")
        method, _, rest = head.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        status, body = await self._route(method.decode("latin-1"), path)
        kind = "text/plain; version=0.0.4; charset=utf-8"
        writer.write(
            f"HTTP/1.1 {status} {_REASONS[status]}\r\ncontent-type: {kind}\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode()
        )
        writer.write(b"" if method == b"HEAD" else body)

    async def _route(self, method: str, path: bytes) -> tuple[int, bytes]:
        if self._drain_path and hmac.compare_digest(path, self._drain_path):
            if method not in ("GET", "POST"):  # GET: Kubernetes' httpGet hooks can do no other
                return 405, b"use GET or POST\n"
            return 200, (await self._drain()).encode() + b"\n"
        if path not in (b"/healthz", b"/readyz", b"/metrics"):
            return 404, b"there are /healthz, /readyz and /metrics\n"
        if method not in ("GET", "HEAD"):
            return 405, b"use GET\n"
        if path == b"/metrics":
            return 200, self._metrics()
        if path == b"/readyz":
            reason = await self._ready()
            if reason is not None:
                return 503, reason.encode() + b"\n"
        return 200, b"ok\n"
