"""The ledger's client where the ledger misbehaves; that it understands a real one is seen in `test_process`."""

import asyncio
import contextlib

import pytest

from modelcanary_operator.errors import LedgerUnavailable
from modelcanary_operator.ledger_client import HttpLedger


def test_an_answer_that_trickles_for_ever_holds_no_look_up() -> None:
    """Each byte comes in time, and the last one never."""

    ended = asyncio.Event()

    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
            while not writer.is_closing():
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.05)
        writer.close()
        ended.set()

    async def story() -> None:
        server = await asyncio.start_server(trickle, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server, HttpLedger(url, time_limit=0.5) as ledger:
            with pytest.raises(LedgerUnavailable, match="does not answer: TimeoutError"):
                await ledger.standing("team", "fraud")
            await ended.wait()  # the client has hung up

    asyncio.run(asyncio.wait_for(story(), 20.0))
