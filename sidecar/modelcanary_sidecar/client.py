"""The client's side of the live path on an event loop: `Conversation` as an asyncio protocol."""

import asyncio
import fcntl
import struct
import termios
from typing import cast

from modelcanary_sidecar.conversation import Conversation

_INT = struct.Struct("i")


class Client(Conversation, asyncio.Protocol):
    __slots__ = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        port = cast(asyncio.Transport, transport)
        port.set_write_buffer_limits(0)  # uvloop then sends at once, not at the end of the turn
        self.opened(port)

    def unread(self) -> bool:
        """Of what the kernel has: time limits are looked at before what came while the process was starved."""
        connection = cast(asyncio.Transport, self.port).get_extra_info("socket")
        try:
            (length,) = _INT.unpack(fcntl.ioctl(connection.fileno(), termios.FIONREAD, bytes(_INT.size)))
        except OSError:
            return False
        return bool(length)
