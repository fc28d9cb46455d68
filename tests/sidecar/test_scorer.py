"""The scorer as a process: its priority, its signals, and its end."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.sidecar.live_end import LiveEnd

from modelcanary_gate.protocol import Instructions, ModelReading
from modelcanary_gate.vocabulary import Outcome
from modelcanary_sidecar.capture import Captured, LiveAnswer
from modelcanary_sidecar.channel import News, make_ends

PROGRAM = """
import socket, sys
from modelcanary_sidecar.board import Board
from modelcanary_sidecar.channel import End
from modelcanary_sidecar.scorer import run_scorer
from modelcanary_sidecar.settings import read_settings

options = ["--upstream", "http://127.0.0.1:1", "--name", "m", "--identity", "pod-1", "--ledger", sys.argv[1]]
end = End(socket.socket(fileno=int(sys.argv[2])), int(sys.argv[3]))
sys.exit(run_scorer(read_settings(options, {}), [end], Board(1)))
"""
#: Answered on the live path, so that no candidate is needed.
ANSWER = LiveAnswer(None, 200, 0.01, b"", b'{"predictions":[[0.75,0.25]]}')
IN_RUN = Instructions(1, "run-1", share=1.0, model=ModelReading(classes=["a", "b"]))


def captured(number: int) -> Captured:
    return Captured(f"req-{number}", False, time.time(), "run-1", b"POST", b"/p", b"", b"{}", ANSWER, ANSWER)


async def until(condition: Callable[[], object], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.01)


def ended(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@asynccontextmanager
async def scorer(url: str, *before: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, LiveEnd]]:
    """Ready to be offered captured requests; `before` goes before the interpreter in its command line."""
    live, end = make_ends()
    files = (end.messages.fileno(), end.room)
    process = await asyncio.create_subprocess_exec(
        *before, sys.executable, "-c", PROGRAM, url, *map(str, files), pass_fds=files
    )
    end.close()
    at = LiveEnd(live)
    try:

        def told() -> bool:
            found: News | None = at.receive()
            return found is not None and found.instructions == IN_RUN

        await until(told)
        yield process, at
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        live.close()


def test_its_priority_is_the_lowest_and_its_pairs_arrive(stub_ledger: Any) -> None:
    async def main() -> None:
        async with stub_ledger(IN_RUN) as ledger, scorer(ledger.url) as (process, live):
            assert os.getpriority(os.PRIO_PROCESS, process.pid) == 19
            assert live.offer(captured(1))
            await until(lambda: ledger.pairs)
            assert ledger.pairs[0].candidate.outcome is Outcome.OK
            assert ledger.batches[0].sidecar.startswith("pod-1-")

    asyncio.run(main())


def test_sigterm_sends_what_is_left(stub_ledger: Any) -> None:
    async def main() -> None:
        async with stub_ledger(IN_RUN) as ledger, scorer(ledger.url) as (process, live):
            ledger.no_pairs = b"HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n"
            for number in range(40):
                assert live.offer(captured(number))
            await until(lambda: ledger.batches)  # what was sent was refused
            for number in range(40, 80):
                assert live.offer(captured(number))
            process.send_signal(signal.SIGTERM)
            ledger.no_pairs = None
            assert await asyncio.wait_for(process.wait(), 10) == 0
            assert sorted(int(pair.id[4:]) for pair in ledger.pairs) == list(range(80))

    asyncio.run(main())


def test_sigterm_does_not_wait_for_a_ledger_that_is_away(stub_ledger: Any) -> None:
    async def main() -> None:
        async with stub_ledger(IN_RUN) as ledger, scorer(ledger.url) as (process, live):
            ledger.no_pairs = b"HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n"
            assert live.offer(captured(1))
            await until(lambda: ledger.batches)
            started = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), 14) == 0
            assert time.monotonic() - started < 10.0

    asyncio.run(main())


def test_a_terminals_interrupt_is_left_to_the_one_that_started_it(stub_ledger: Any) -> None:
    async def main() -> None:
        async with stub_ledger(IN_RUN) as ledger, scorer(ledger.url) as (process, live):
            process.send_signal(signal.SIGINT)
            assert live.offer(captured(1))
            await until(lambda: ledger.pairs)
            assert process.returncode is None

    asyncio.run(main())


def test_it_ends_when_the_one_that_started_it_is_gone(stub_ledger: Any) -> None:
    async def main() -> None:
        async with stub_ledger(IN_RUN) as ledger:
            # A shell between us and the scorer, which waits for it and is killed.
            shell = ("sh", "-c", '"$@" & wait', "sh")
            async with scorer(ledger.url, *shell) as (process, live):
                children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
                (child,) = map(int, children)
                process.kill()
                assert live.offer(captured(1))
                await until(lambda: ended(child))
                assert len(ledger.pairs) == 1

    asyncio.run(main())


def test_numpy_is_loaded_by_the_first_large_answer_and_no_earlier() -> None:
    code = """
import json, sys
import modelcanary_sidecar.scorer
from modelcanary_gate.protocol import ModelReading
from modelcanary_gate.vocabulary import Role
from modelcanary_sidecar.decoding import Reader
for classes, loaded in ((10, False), (1000, True)):
    reader = Reader(ModelReading(classes=[str(name) for name in range(classes)]), Role.BASELINE, 1 << 20)
    read = reader.read(200, b"", json.dumps({"predictions": [[1 / classes] * classes]}).encode())
    assert len(read[0]) == 4 * classes
    assert ("numpy" in sys.modules) is loaded, (classes, loaded)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
