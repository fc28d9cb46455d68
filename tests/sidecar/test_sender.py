"""The sender against a ledger on a real socket that fails in every way."""

import asyncio
import gc
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from modelcanary_gate.protocol import Answer, Instructions, Pair, PairBatch
from modelcanary_gate.vocabulary import Outcome
from modelcanary_sidecar.ledger_client import LedgerClient, LedgerUnavailable, encode_batch
from modelcanary_sidecar.pair_buffer import BufferLimits
from modelcanary_sidecar.sender import Pace, Sender

IN_RUN = Instructions(7, "run-1", "http://candidate", 1.0)
QUICK = Pace(flush=0.01, heartbeat=0.05, idle=0.4, eager=0.0, backoff=0.01, longest_backoff=0.05)


def pair(number: int) -> Pair:
    answer = Answer(Outcome.OK, 0.1, b"\0\0\0\0")
    return Pair(number.to_bytes(16, "big"), f"id-{number}", 0, float(number), answer, answer)


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.005)


class Heard:
    def __init__(self) -> None:
        self.instructions: list[Instructions] = []
        self.asked: list[float] = []

    def __call__(self, instructions: Instructions, asked: float) -> None:
        self.instructions.append(instructions)
        self.asked.append(asked)


@asynccontextmanager
async def sending(url: str, *, token: str | None = None, **options: Any) -> AsyncIterator[tuple[Sender, Heard]]:
    heard = Heard()
    async with LedgerClient(url, "team a", "fraud", token) as client:
        sender = Sender(client, "pod-1", heard, **{"pace": QUICK, **options})
        running = asyncio.create_task(sender.run())
        try:
            yield sender, heard
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def response(status: int) -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Length: 4\r\n\r\nwhy?" % status


def test_pairs_arrive_and_instructions_come_back(stub_ledger: Any) -> None:
    async def main() -> None:
        async with stub_ledger(IN_RUN) as ledger, sending(ledger.url) as (sender, heard):
            for number in range(3):
                sender.add("run-1", pair(number))
            sender.drop("run-1", "rate", 2)
            before = time.monotonic()
            await until(lambda: len(ledger.pairs) == 3)
            await until(lambda: bool(heard.instructions))
            assert ledger.pairs == [pair(number) for number in range(3)]
            assert ledger.dropped == {"rate": 2}
            assert heard.instructions[0] == IN_RUN
            assert before - 1.0 < heard.asked[0] <= time.monotonic()
            line, headers, _ = ledger.requests[0]
            assert line.startswith(b"POST /v1/runs/team%20a/fraud/")
            assert headers["content-type"] == "application/vnd.msgpack"
            assert "authorization" not in headers

    asyncio.run(main())


def test_no_batch_is_left_to_the_collector(stub_ledger: Any) -> None:
    """It looks once in many minutes, and each batch is of hundreds of kilobytes."""

    async def main() -> None:
        async with stub_ledger(IN_RUN) as ledger, LedgerClient(ledger.url, "ml", "fraud", None) as client:
            body = encode_batch(PairBatch("b", "pod", "run-1", [pair(number) for number in range(2000)], {}))
            gc.disable()
            try:
                before = sys.getrefcount(body)
                for fault in (None, response(503), b"", b"SSH-2.0\r\n"):
                    ledger.faults = [fault] if fault is not None else []
                    with suppress(LedgerUnavailable):
                        await client.send_batch(body)
                    await asyncio.sleep(0)  # for a connection that is being closed
                    await until(lambda: sys.getrefcount(body) == before)
            finally:
                gc.enable()

    asyncio.run(main())


def test_instructions_may_come_as_json(stub_ledger: Any) -> None:
    async def main() -> None:
        async with stub_ledger(IN_RUN) as ledger:
            ledger.as_json = True
            async with sending(ledger.url) as (_, heard):
                await until(lambda: heard.instructions == [IN_RUN])

    asyncio.run(main())


FAULTS = {
    "500": response(500),
    "503": response(503),
    "507": response(507),
    "429": response(429),
    "401": response(401),
    "closed": b"",
    "not HTTP": b"SSH-2.0\r\n",
    "cut": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
    "no UTF-8": b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{"run":"\xff"}',
    "not instructions": b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnope",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_batch_is_sent_again_the_same_until_it_is_taken(stub_ledger: Any, fault: str) -> None:
    async def main() -> None:
        idle = Pace(flush=0.01, heartbeat=9.0, idle=9.0, backoff=0.01, longest_backoff=0.05)
        async with stub_ledger(IN_RUN) as ledger, sending(ledger.url, pace=idle) as (sender, _):
            await until(lambda: sender.heartbeats == 1)
            ledger.faults = [FAULTS[fault]] * 3
            sender.add("run-1", pair(1))
            sender.drop("run-1", "rate")
            await until(lambda: sender.batches == 1)
            bodies = [body for line, _, body in ledger.requests if b"/pairs " in line]
            assert len(bodies) == 4
            assert len(set(bodies)) == 1
            assert sender.retries == 3
            assert ledger.dropped == {"rate": 1}
            sender.add("run-1", pair(2))
            await until(lambda: len(ledger.pairs) == 2)
            assert len({batch.batch for batch in ledger.batches}) == 2

    asyncio.run(main())


def test_a_ledger_that_hangs_does_not_hang_us(stub_ledger: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelcanary_sidecar.ledger_http.ANSWER_TIME", 0.1)

    async def main() -> None:
        async with stub_ledger(IN_RUN) as ledger:
            ledger.faults = [None, None]
            async with sending(ledger.url) as (sender, _):
                sender.add("run-1", pair(1))
                await until(lambda: len(ledger.pairs) == 1 and sender.batches == 1)

    asyncio.run(main())


@pytest.mark.parametrize("status", [400, 404, 409, 413, 422])
def test_what_the_ledger_refuses_for_good_is_counted_and_left(stub_ledger: Any, status: int) -> None:
    async def main() -> None:
        idle = Pace(flush=0.01, heartbeat=9.0, idle=9.0)
        async with stub_ledger(IN_RUN) as ledger, sending(ledger.url, pace=idle) as (sender, _):
            await until(lambda: sender.heartbeats == 1)
            ledger.faults = [response(status)]
            sender.add("run-1", pair(1))
            sender.add("run-1", pair(2))
            await until(lambda: sender.batches == 1)
            assert ledger.batches[-1].pairs == []
            assert ledger.batches[-1].dropped == {"refused": 2}

    asyncio.run(main())


def test_counts_that_are_refused_do_not_go_round_for_ever(stub_ledger: Any) -> None:
    async def main() -> None:
        idle = Pace(flush=0.01, heartbeat=9.0, idle=9.0)
        async with stub_ledger(IN_RUN) as ledger, sending(ledger.url, pace=idle) as (sender, _):
            await until(lambda: sender.heartbeats == 1)
            ledger.faults = [response(404)] * 50
            sender.add("run-1", pair(1))
            await until(lambda: len(ledger.batches) == 2 and sender._unsent is None)
            assert sender.buffer.cut() is None
            sender.add("run-2", pair(2))
            await until(lambda: [batch.run for batch in ledger.batches[2:3]] == ["run-2"])

    asyncio.run(main())


def test_heartbeats_are_frequent_during_a_run_and_rare_without(stub_ledger: Any) -> None:
    async def main() -> None:
        async with stub_ledger(Instructions(1)) as ledger, sending(ledger.url) as (_, heard):
            await until(lambda: len(heard.asked) == 3)
            ledger.instructions = IN_RUN
            await until(lambda: len(heard.asked) == 7)
            assert all(later - sooner > 0.35 for sooner, later in zip(heard.asked[:3], heard.asked[1:3], strict=False))
            in_run = [later - sooner for sooner, later in zip(heard.asked[4:], heard.asked[5:], strict=False)]
            assert min(in_run) < 0.3
            assert [beat.version for beat in ledger.heartbeats[:2]] == [0, 1]
            assert ledger.heartbeats[-1].version == 7

    asyncio.run(main())


def test_after_the_start_heartbeats_are_frequent_so_that_a_run_begins_at_once(stub_ledger: Any) -> None:
    async def main() -> None:
        eager = Pace(flush=0.01, heartbeat=0.05, idle=60.0, eager=60.0)
        async with stub_ledger(Instructions(1)) as ledger, sending(ledger.url, pace=eager):
            await until(lambda: len(ledger.heartbeats) >= 3)

    asyncio.run(main())


def test_batches_are_news_enough(stub_ledger: Any) -> None:
    async def main() -> None:
        pace = Pace(flush=0.01, heartbeat=0.5, idle=0.5)
        async with stub_ledger(IN_RUN) as ledger, sending(ledger.url, pace=pace) as (sender, _):
            await until(lambda: sender.heartbeats == 1)
            end = time.monotonic() + 1.2
            number = 0
            while time.monotonic() < end:
                sender.add("run-1", pair(number := number + 1))
                await asyncio.sleep(0.02)
            assert sender.batches > 3
            assert sender.heartbeats <= 2  # else there would be three

    asyncio.run(main())


def test_a_ledger_that_takes_no_pairs_still_renews_the_lease(stub_ledger: Any) -> None:
    """A full disk (507) refuses pairs; heartbeats must not wait behind the batch that is sent again."""

    async def main() -> None:
        async with stub_ledger(IN_RUN) as ledger, sending(ledger.url) as (sender, heard):
            await until(lambda: sender.heartbeats == 1)
            ledger.no_pairs = response(507)
            sender.add("run-1", pair(1))
            await until(lambda: sender.retries >= 3 and sender.heartbeats >= 5)
            assert len(heard.instructions) >= 5
            ledger.no_pairs = None
            await until(lambda: sender.batches == 1)
            assert ledger.pairs == [pair(1)]

    asyncio.run(main())


def test_the_buffer_is_bounded_while_the_ledger_is_away() -> None:
    async def main() -> None:
        async with sending("http://127.0.0.1:9", limits=BufferLimits(pairs=10, batch_pairs=4)) as (sender, _):
            for number in range(100):
                sender.add("run-1", pair(number))
                if number == 50:
                    await until(lambda: sender.retries > 0)
            assert len(sender.buffer) == 10
            # The batch under way keeps its four, which may have been recorded; it carries the drops until then.
            assert sender._unsent is not None
            under_way = msgspec.msgpack.decode(sender._unsent[2], type=PairBatch)
            batch = sender.buffer.cut()
            assert batch is not None
            assert len(under_way.pairs) == 4
            assert under_way.dropped["buffer"] + batch.dropped["buffer"] == 100 - 10 - 4

    asyncio.run(main())


def test_a_token_is_read_anew_for_each_request(stub_ledger: Any, tmp_path: Path) -> None:
    async def main() -> None:
        token = tmp_path / "token"

        def write(text: str) -> None:
            """At once, as the kubelet does: nobody reads half of it."""
            (tmp_path / "new").write_text(text)
            (tmp_path / "new").rename(token)

        write("first\n")
        async with stub_ledger(IN_RUN) as ledger, sending(ledger.url, token=str(token)):
            await until(lambda: bool(ledger.requests))
            assert ledger.requests[0][1]["authorization"] == "Bearer first"
            write("second")
            await until(lambda: ledger.requests[-1][1]["authorization"] == "Bearer second")
            token.unlink()  # while it is replaced
            count = len(ledger.requests)
            await asyncio.sleep(0.1)
            assert len(ledger.requests) <= count + 1
            write("third")
            await until(lambda: ledger.requests[-1][1]["authorization"] == "Bearer third")

    asyncio.run(main())


def test_flush_sends_all_that_is_left_also_what_was_under_way(stub_ledger: Any) -> None:
    async def main() -> None:
        async with stub_ledger(IN_RUN) as ledger:
            limits = BufferLimits(batch_pairs=10)
            async with sending(ledger.url, limits=limits) as (sender, _):
                await until(lambda: sender.heartbeats >= 1)
                ledger.faults = [response(503)] * 2
                for number in range(95):
                    sender.add("run-1", pair(number))
            async with LedgerClient(ledger.url, "team a", "fraud", None) as client:
                sender._client = client
                assert await sender.flush(5.0)
            assert sorted(int(one.id[3:]) for one in ledger.pairs) == list(range(95))

    asyncio.run(main())


def test_flush_gives_up_in_time() -> None:
    async def main() -> None:
        async with LedgerClient("http://127.0.0.1:9", "n", "m", None) as client:
            sender = Sender(client, "pod-1", Heard(), pace=QUICK)
            sender.add("run-1", pair(1))
            started = time.monotonic()
            assert not await sender.flush(0.2)
            assert sender.unsent == 1  # it is under way, and not in the buffer any more
            assert time.monotonic() - started < 2.0

    asyncio.run(main())
