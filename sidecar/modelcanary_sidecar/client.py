"""The client's side of the live path on an event loop: `Conversation` as an asyncio protocol."""

import asyncio
from typing import cast

from modelcanary_sidecar.conversation import Conversation


class Client(Conversation, asyncio.Protocol):
    __slots__ = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        port = cast(asyncio.Transport, transport)
        port.set_write_buffer_limits(0)  # uvloop then sends at once, not at the end of the turn
        self.opened(port)
