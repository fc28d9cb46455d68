"""The model's side of the live path on an event loop: `ModelConnection` as an asyncio protocol.

`live` makes a `Connector`, and pools call it to have connections opened. It must not know what is sent.
"""

import asyncio
import socket
import struct
from typing import cast

from modelcanary_sidecar.exchange import Exchange
from modelcanary_sidecar.model_connection import ModelConnection
from modelcanary_sidecar.pool import Pool
from modelcanary_sidecar.settings import Address

#: `tcpi_bytes_acked` of `struct tcp_info` (linux/tcp.h, since 4.1)
_BYTES_ACKED = struct.Struct("120xQ")


class Upstream(ModelConnection, asyncio.Protocol):
    __slots__ = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.port = port = cast(asyncio.Transport, transport)
        port.set_write_buffer_limits(0)  # uvloop then sends at once, not at the end of the turn

    def unread_by_model(self) -> bool:
        """By the kernel's count of what the model's side acknowledged: a socket that was closed before the
        request came answers with a reset and acknowledges nothing, so even a POST can be sent again.
        """
        transport = cast(asyncio.Transport, self.port)
        connection = transport.get_extra_info("socket")
        try:
            info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED.size)
            (acknowledged,) = _BYTES_ACKED.unpack(info)
        except (OSError, struct.error):
            return False
        return bool(acknowledged <= self.before + 1)  # the one is the handshake's


class Connector:
    """Opens connections to one model, each within `time_limit`; failures are told to the pool."""

    def __init__(self, tasks: asyncio.TaskGroup, address: Address, time_limit: float) -> None:
        self.address = address
        self._tasks = tasks
        self._time_limit = time_limit

    def __call__(self, pool: Pool, exchange: Exchange | None) -> None:
        self._tasks.create_task(self._open(pool, exchange))

    async def _open(self, pool: Pool, exchange: Exchange | None) -> None:
        loop = asyncio.get_running_loop()
        connection = Upstream(pool)
        try:
            async with asyncio.timeout(self._time_limit):
                await loop.create_connection(lambda: connection, self.address.host, self.address.port)
        except (OSError, UnicodeError):  # a TimeoutError is the former; names that are none raise the latter
            connection.unmade()
            loop.call_soon(pool.connect_failed, exchange)
        else:
            loop.call_soon(pool.connected, connection, exchange)
