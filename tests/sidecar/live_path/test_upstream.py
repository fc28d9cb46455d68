"""Whether a request that got no answer reached the model, by what its kernel acknowledged."""

import asyncio
import gc
import socket

import pytest
import uvloop

from modelcanary_sidecar.heads import Names, read_request
from modelcanary_sidecar.pool import Pool
from modelcanary_sidecar.settings import Address
from modelcanary_sidecar.upstream import Connector, Upstream


class _Asked:
    """Enough of an exchange to be sent, once."""

    def __init__(self) -> None:
        head = read_request(b"POST", b"/x", "1.1", [(b"Host", b"a")], Names("X-Request-Id"), b"a")
        self.head = head
        self.complete = True
        self.unsent = self.head.pieces
        self.kept: list[bytes] = []


async def _unread(model_reads: bool, served_before: int) -> bool:
    """Ask on a connection that the model closes: before, or after it has read the request."""
    listener = socket.create_server(("127.0.0.1", 0))
    loop = asyncio.get_running_loop()
    found: asyncio.Future[bool] = loop.create_future()

    class Watched(Upstream):
        def connection_lost(self, error: Exception | None) -> None:
            found.set_result(self.unread_by_model())

    async with asyncio.TaskGroup() as tasks:
        connector = Connector(tasks, Address(*listener.getsockname()[:2]), 2.0)
        pool = Pool(
            connector,
            clock=loop.time,
            names=Names("X-Request-Id"),
            limit=1,
            waiting=1,
            waiting_time=1,
            answer_time=1,
            idle=1,
        )
        transport, connection = await loop.create_connection(lambda: Watched(pool), *listener.getsockname()[:2])
        end, _ = listener.accept()
        end.settimeout(5.0)
        for _ in range(served_before):
            connection.exchange = None
            connection.start(_Asked(), loop.time())  # type: ignore[arg-type]
            end.recv(1000)
        connection.exchange = None
        if not model_reads:
            end.close()  # and at once, before the loop can learn of it, the next request:
        connection.start(_Asked(), loop.time())  # type: ignore[arg-type]
        if model_reads:
            end.recv(1000)
            end.close()
        async with asyncio.timeout(5.0):
            unread = await found
        transport.abort()
    listener.close()
    return unread


@pytest.mark.parametrize("served_before", [0, 3])
@pytest.mark.parametrize("model_reads", [True, False])
def test_what_a_closed_socket_got_was_not_read(model_reads: bool, served_before: int) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(_unread(model_reads, served_before)) is not model_reads


def test_a_model_that_is_down_leaves_nothing_to_the_collector() -> None:
    def alive() -> int:
        return sum(isinstance(found, Upstream) for found in gc.get_objects())

    async def connect() -> None:
        with socket.create_server(("127.0.0.1", 0)) as once:
            address = Address(*once.getsockname()[:2])
        failed = asyncio.Event()

        class Told:
            def connect_failed(self, exchange: object) -> None:
                failed.set()

        before = alive()
        async with asyncio.TaskGroup() as tasks, asyncio.timeout(5.0):
            connector = Connector(tasks, address, 2.0)
            for _ in range(5):
                failed.clear()
                connector(Told(), None)  # type: ignore[arg-type]
                await failed.wait()
        assert alive() <= before + 1  # the event loop may hold its last error

    gc.collect()
    gc.disable()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(connect())
    finally:
        gc.enable()


@pytest.mark.parametrize("host", ["a..b", "x" * 70 + ".test"])
def test_a_name_that_is_none_is_a_model_that_does_not_answer(host: str) -> None:
    """It may be the candidate's, in instructions: the error must not end the process that serves users."""

    async def connect() -> None:
        failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        class Told:
            def connect_failed(self, exchange: object) -> None:
                failed.set_result(None)

        async with asyncio.TaskGroup() as tasks, asyncio.timeout(5.0):
            Connector(tasks, Address(host, 80), 2.0)(Told(), None)  # type: ignore[arg-type]
            await failed

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(connect())
