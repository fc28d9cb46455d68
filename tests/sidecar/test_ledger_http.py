"""The client of one server against sockets that answer in every way: no answer is believed that is not whole."""

import asyncio
import gc
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import uvloop

from modelcanary_sidecar import ledger_http
from modelcanary_sidecar.ledger_http import Answer, Http
from modelcanary_sidecar.trust import Trust

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/x\r\nContent-Length: 2\r\n\r\nok"


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def serving(serve: Serve) -> AsyncIterator[str]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/ledger"


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(story(), 20))


def client(url: str, clock: Clock | None = None) -> Http:
    return Http(url, Trust(url, None), clock or Clock())


def answering(*answers: bytes) -> tuple[Serve, list[tuple[int, bytes]]]:
    """The server, and what it was asked, with the connection's number."""
    asked: list[tuple[int, bytes]] = []
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        mine = connections
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
            asked.append((mine, head + await reader.readexactly(length)))
            writer.write(answers[min(len(asked), len(answers)) - 1])
            await writer.drain()

    return serve, asked


@pytest.mark.parametrize("size", [0, 5, 3 << 20])
def test_a_request_arrives_whole_on_a_connection_that_is_kept(size: int) -> None:
    async def story() -> None:
        serve, asked = answering(OK)
        async with serving(serve) as url:
            http = client(url)
            for _ in range(2):
                assert await http.ask("POST", "/x?a=b", {"X-A": "1"}, b"x" * size) == Answer(200, "text/x", b"ok")
            (first, request), (second, _) = asked
            assert first == second == 1
            head, _, body = request.partition(b"\r\n\r\n")
            assert head.splitlines()[0] == b"POST /ledger/x?a=b HTTP/1.1"
            assert {b"Host: " + url.encode()[7:-7], b"X-A: 1", b"Content-Length: %d" % size} <= {*head.splitlines()}
            assert body == b"x" * size
            http.close()

    run(story)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
        b"HTTP/1.1 200 OK\r\nContent-Type: text/x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n",
    ],
)
def test_every_framing_of_an_answer_is_read(answer: bytes) -> None:
    async def story() -> None:
        serve, asked = answering(answer)
        async with serving(serve) as url:
            http = client(url)
            for _ in range(2):
                assert await http.ask("GET", "/x", {}, b"") == Answer(200, "text/x", b"ok")
            assert [number for number, _ in asked] == [1, 1]
            http.close()

    run(story)


@pytest.mark.parametrize(
    "first",
    [
        OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
        OK + OK,  # the second answer would be taken for the next request's
    ],
)
def test_a_connection_that_is_not_to_be_trusted_is_not_used_again(first: bytes) -> None:
    async def story() -> None:
        serve, asked = answering(first, OK.replace(b"ok", b"no"))
        async with serving(serve) as url:
            http = client(url)
            assert (await http.ask("POST", "/x", {}, b"")).body == b"ok"
            assert (await http.ask("POST", "/x", {}, b"")).body == b"no"
            assert [number for number, _ in asked] == [1, 2]
            http.close()

    run(story)


def test_a_connection_that_idled_for_long_is_not_used_again() -> None:
    """The ledger may be closing it at that moment."""

    async def story() -> None:
        serve, asked = answering(OK)
        clock = Clock()
        async with serving(serve) as url:
            http = client(url, clock)
            for pause in (0.0, 3.9, 4.1):
                clock.now += pause
                await http.ask("POST", "/x", {}, b"")
            assert [number for number, _ in asked] == [1, 1, 2]
            http.close()

    run(story)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\n\r\nno end is said",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"SSH-2.0-x\r\n",
    ],
)
def test_what_is_no_whole_answer_is_an_error(answer: bytes) -> None:
    async def story() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)

        async with serving(serve) as url:
            http = client(url)
            with pytest.raises(ConnectionError):
                await http.ask("POST", "/x", {}, b"")
            assert not http._idle

    run(story)


def test_a_ledger_that_is_away_leaves_nothing_to_the_collector() -> None:
    def alive() -> int:
        return sum(isinstance(found, ledger_http._Connection) for found in gc.get_objects())

    async def story() -> None:
        with socket.create_server(("127.0.0.1", 0)) as once:
            url = f"http://127.0.0.1:{once.getsockname()[1]}"
        http = client(url)
        gc.collect()
        gc.disable()
        try:
            before = alive()
            for _ in range(5):
                with suppress(ConnectionError):  # pytest.raises would hold what the error passed through
                    await http.ask("POST", "/x", {}, b"")
            assert alive() <= before + 1  # the event loop holds its last error
        finally:
            gc.enable()

    run(story)


def test_an_answer_without_an_end_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_http, "MOST_ANSWER", 100_000)
    left = asyncio.Event()

    async def story() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            try:
                while True:
                    writer.write(b"400\r\n" + bytes(1024) + b"\r\n")
                    await writer.drain()
            finally:
                left.set()

        async with serving(serve) as url:
            with pytest.raises(ConnectionError, match="beyond 100000 bytes"):
                await client(url).ask("POST", "/x", {}, b"")
            await left.wait()

    run(story)


def test_a_server_that_hangs_is_left_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_http, "ANSWER_TIME", 0.05)

    async def story() -> None:
        left = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            left.set()

        async with serving(serve) as url:
            with pytest.raises(TimeoutError):
                await client(url).ask("POST", "/x", {}, b"")
            await left.wait()

    run(story)


@pytest.mark.parametrize("host", ["a..b", "x" * 70 + ".test"])
def test_a_name_that_is_none_is_an_error_that_the_caller_expects(host: str) -> None:
    async def story() -> None:
        with pytest.raises((OSError, UnicodeError)):
            await client(f"http://{host}").ask("POST", "/x", {}, b"")

    run(story)
