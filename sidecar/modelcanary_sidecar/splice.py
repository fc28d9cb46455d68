"""Connections that are passed through as they are: HTTP/2 with prior knowledge, gRPC among them, unmirrored.

`live` hands over a client's connection with the bytes that it began with. It must not know what they mean. The one
thing that is added is a GOAWAY when the process leaves: clients of gRPC keep a connection for as long as they can, and
one that is closed under them fails their requests.
"""

import asyncio
from typing import cast

from modelcanary_sidecar.h2_frames import GOAWAY, Frames
from modelcanary_sidecar.settings import Address

#: At once, per live process; beyond, the client's connection is closed.
MOST = 1024


class _Side(asyncio.Protocol):
    """Writes what it reads to the other side, no faster than that one takes it."""

    __slots__ = ("_late", "_splices", "ended", "frames", "other", "transport")

    def __init__(self, splices: "Splices", client: "_Side | None" = None) -> None:
        self._splices = splices
        #: Of the model's side, until its client has been told to go.
        self.frames = Frames() if client is not None else None
        self._late = splices.draining
        self.transport: asyncio.Transport | None = None
        self.other = client  # at once: servers of HTTP/2 speak first
        self.ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(64 << 10)

    def data_received(self, data: bytes) -> None:
        other, frames = self.other, self.frames
        if other is None or other.transport is None:
            return
        place = frames.passed(data) if frames is not None else -1
        if place >= 0 and self._tells():
            self.frames = None
            data = data[:place] + GOAWAY + data[place:]
        other.transport.write(data)

    def _tells(self) -> bool:
        """Who comes in spite of it gets one answer first; told at once, it would come again and again."""
        return self._splices.draining and self.frames is not None and (not self._late or self.frames.answered)

    def leave(self) -> None:
        """Tell the client, unless the model is in the middle of a frame: then that is told when it ends."""
        if self.frames is not None and self.frames.between and self._tells() and self.other is not None:
            self.frames = None
            if self.other.transport is not None:
                self.other.transport.write(GOAWAY)

    def eof_received(self) -> bool:
        self.ended = True
        other = self.other
        if other is None or other.transport is None or other.ended:
            return False  # closes this side, and `connection_lost` the other
        other.transport.write_eof()
        return True  # the other direction may go on

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self._splices.sides.discard(self)
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()
        self.other = None


class Splices:
    """All connections that are passed through."""

    def __init__(self, tasks: asyncio.TaskGroup, model: Address, time_limit: float) -> None:
        self._tasks = tasks
        self._model = model
        self._time_limit = time_limit
        self.sides: set[_Side] = set()
        self.draining = False

    def begin(self, client: asyncio.Transport, first: bytes) -> bool:
        """Take over a client's connection; False when there are too many."""
        if len(self.sides) >= 2 * MOST:
            client.abort()
            return False
        client.pause_reading()
        self._tasks.create_task(self._join(client, first))
        return True

    async def _join(self, transport: asyncio.Transport, first: bytes) -> None:
        loop = asyncio.get_running_loop()
        client = _Side(self)
        client.connection_made(transport)
        transport.set_protocol(client)
        self.sides.add(client)
        try:
            async with asyncio.timeout(self._time_limit):
                to_model, model = await loop.create_connection(
                    lambda: _Side(self, client), self._model.host, self._model.port
                )
        except OSError:
            transport.abort()
            return
        if client not in self.sides:  # the client has left meanwhile
            to_model.abort()
            return
        self.sides.add(model)
        client.other = model
        to_model.write(first)
        transport.resume_reading()

    def drain(self, draining: bool) -> None:
        """Tell clients to go elsewhere from now on, or no more."""
        self.draining = draining
        for side in list(self.sides) if draining else ():
            side.leave()

    def close(self) -> None:
        for side in list(self.sides):
            if side.transport is not None:
                side.transport.abort()
