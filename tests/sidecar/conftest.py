"""A ledger that answers what a test tells it to: for the faults that a real one does not have on demand."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

import msgspec
import pytest

from modelcanary_gate.protocol import Heartbeat, Instructions, Pair, PairBatch


@dataclass
class StubLedger:
    """Records what it is sent; answers `instructions`, or the next of `faults` (an HTTP response, or a hang)."""

    instructions: Instructions
    faults: list[bytes | None] = field(default_factory=list)
    no_pairs: bytes | None = None  # the answer to every batch, while it is set
    as_json: bool = False
    requests: list[tuple[bytes, dict[str, str], bytes]] = field(default_factory=list)  # line, headers, body
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def batches(self) -> list[PairBatch]:
        decode = msgspec.msgpack.Decoder(PairBatch).decode
        return [decode(body) for line, _, body in self.requests if b"/pairs " in line]

    @property
    def pairs(self) -> list[Pair]:
        """Each batch once, as the ledger records it."""
        once = {batch.batch: batch for batch in self.batches}
        return [pair for batch in once.values() for pair in batch.pairs]

    @property
    def dropped(self) -> dict[str, int]:
        total: dict[str, int] = {}
        for batch in {batch.batch: batch for batch in self.batches}.values():
            for reason, count in batch.dropped.items():
                total[reason] = total.get(reason, 0) + count
        return total

    @property
    def heartbeats(self) -> list[Heartbeat]:
        decode = msgspec.msgpack.Decoder(Heartbeat).decode
        return [decode(body) for line, _, body in self.requests if b"/heartbeat " in line]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:-2])}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                self.requests.append((head[0].encode(), headers, body))
                if self.no_pairs is not None and b"/pairs " in self.requests[-1][0]:
                    writer.write(self.no_pairs)
                    continue
                if self.faults:
                    fault = self.faults.pop(0)
                    if fault is None:
                        await reader.read(-1)
                        return
                    writer.write(fault)
                    if b"Content-Length" not in fault:
                        return
                    continue
                encode = msgspec.json.encode if self.as_json else msgspec.msgpack.encode
                kind = b"application/json" if self.as_json else b"application/vnd.msgpack"
                answer = encode(self.instructions)
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b" % (kind, len(answer), answer)
                )
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()


Started = Callable[[Instructions], AbstractAsyncContextManager[StubLedger]]


@pytest.fixture
def stub_ledger() -> Started:
    @asynccontextmanager
    async def start(instructions: Instructions) -> AsyncIterator[StubLedger]:
        stub = StubLedger(instructions)
        server = await asyncio.start_server(stub.serve, "127.0.0.1", 0)
        stub.port = server.sockets[0].getsockname()[1]
        try:
            yield stub
        finally:
            server.close()

    return start
