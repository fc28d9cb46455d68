"""An HTTP client as users have one: connections that are kept alive and used again, or one for each request.

Called by `load`. It never tries anything again: what fails here is what a user would see fail.
"""

import asyncio
import time
from dataclasses import dataclass
from ssl import SSLContext
from urllib.parse import urlsplit


class Failed(Exception):
    """What the user saw instead of an answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    since: float
    used: int = 0


class Client:
    """`lifetime`: seconds after which a connection is not used again, as connection pools do it."""

    def __init__(self, url: str, *, seconds: float, lifetime: float, tls: SSLContext | None = None) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = tls if parts.scheme == "https" else None
        self._seconds = seconds
        self._lifetime = lifetime
        self._idle: list[_Connection] = []

    async def post(self, path: str, body: bytes, headers: dict[str, str], *, keep: bool) -> Answer:
        """Raises Failed."""
        connection: _Connection | None = None
        try:
            async with asyncio.timeout(self._seconds):
                connection = (self._kept() if keep else None) or await self._open()
                answer = await self._exchange(connection, path, body, headers, keep=keep)
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            again = f" on a connection used {connection.used} times" if connection is not None else ""
            if connection is not None:
                connection.writer.close()
            raise Failed(f"{type(error).__name__} {error}{again}") from error
        if keep and answer.headers.get("connection", "").lower() != "close":
            connection.used += 1
            self._idle.append(connection)
        else:
            connection.writer.close()
        return answer

    def _kept(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            fresh = time.monotonic() - connection.since < self._lifetime
            if fresh and not connection.reader.at_eof() and not connection.writer.is_closing():
                return connection
            connection.writer.close()
        return None

    async def _open(self) -> _Connection:
        reader, writer = await asyncio.open_connection(self._host, self._port, ssl=self._tls)
        return _Connection(reader, writer, time.monotonic())

    async def _exchange(
        self, connection: _Connection, path: str, body: bytes, headers: dict[str, str], *, keep: bool
    ) -> Answer:
        lines = [f"POST {path} HTTP/1.1", f"Host: {self._host}:{self._port}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        lines += ["Content-Type: application/json", *([] if keep else ["Connection: close"])]
        connection.writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        await connection.writer.drain()
        head = (await connection.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status = int(head[0].split(" ", 2)[1])
        found = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        return Answer(status, found, await _body(connection.reader, found))


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding", "").lower() != "chunked":
        return await reader.readexactly(int(headers.get("content-length", "0")))
    parts = []
    while size := int((await reader.readline()).split(b";")[0], 16):
        parts.append(await reader.readexactly(size))
        await reader.readexactly(2)
    await reader.readuntil(b"\r\n")
    return b"".join(parts)
