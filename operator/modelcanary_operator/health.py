"""The operator's own port: /livez, /readyz and /metrics. Started by `main`; a request a connection, read only."""

import asyncio
import logging
from collections.abc import Callable

_log = logging.getLogger(__name__)
_TIME_LIMIT = 5.0
_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_REASONS = {200: "OK", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}

#: None, or what is wrong.
Check = Callable[[], str | None]


class Health:
    def __init__(self, live: Check, ready: Check, metrics: Callable[[], bytes]) -> None:
        self._live = live
        self._ready = ready
        self._metrics = metrics

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_TIME_LIMIT):
                head = await reader.readuntil(b"\r\n\r\n")
                method, _, rest = head.partition(b" ")
                status, body = self.route(method, rest.partition(b" ")[0].partition(b"?")[0])
                writer.write(
                    f"HTTP/1.1 {status} {_REASONS[status]}\r\ncontent-type: {_TYPE}\r\n"
                    f"content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode()
                )
                writer.write(b"" if method == b"HEAD" else body)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            _log.debug("no request, or nobody to answer: %r", error)
        finally:
            writer.close()

    def route(self, method: bytes, path: bytes) -> tuple[int, bytes]:
        checks = {b"/livez": self._live, b"/readyz": self._ready}
        if path not in (*checks, b"/metrics"):
            return 404, b"there are /livez, /readyz and /metrics\n"
        if method not in (b"GET", b"HEAD"):
            return 405, b"use GET\n"
        if path == b"/metrics":
            return 200, self._metrics()
        wrong = checks[path]()
        return (200, b"ok\n") if wrong is None else (503, wrong.encode() + b"\n")
