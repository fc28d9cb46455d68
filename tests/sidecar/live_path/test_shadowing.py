"""The candidate is asked by the live process, as a real one against real servers; the test is its scorer."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from tests.sidecar.live_path.processes import (
    EVERYTHING,
    OK,
    Connection,
    Process,
    RawModel,
    captured_by,
    tell,
    until,
)

from modelcanary_gate.protocol import Instructions, MirrorLimits, ModelReading
from modelcanary_gate.vocabulary import Outcome
from modelcanary_sidecar.channel import Dropped, News, ScorerEnd

Live = Callable[..., tuple[Process, ScorerEnd]]
ANSWER = b"HTTP/1.1 201 Made\r\nX-Model: next\r\nContent-Length: 3\r\n\r\n[1]"


@pytest.fixture
def candidate() -> Iterator[RawModel]:
    candidate = RawModel()
    yield candidate
    candidate.stop()


def asking(candidate: RawModel, **changes: object) -> Instructions:
    fields: dict[str, object] = {"model": ModelReading(), **changes}
    return replace(EVERYTHING, candidate=f"http://127.0.0.1:{candidate.port}/next", **fields)  # type: ignore[arg-type]


def hang(connection: Connection) -> None:
    """But for what `tell` asks: too many failures in a row, and nothing would be asked any more."""
    while request := connection.request():
        if b"/probe" in request:
            connection.send(OK)


def is_closed(process: Process) -> bool:
    try:
        process.connect().close()
    except ConnectionError:
        return True
    return False


def dropped_by(scorer: ScorerEnd, reason: str) -> Dropped:
    while True:
        message = until(scorer.receive)
        if isinstance(message, Dropped) and reason in message.counts:
            return message


def test_both_answers_go_to_the_scorer(live: Live, candidate: RawModel) -> None:
    asked: list[bytes] = []

    def answer(connection: Connection) -> None:
        while request := connection.request():
            asked.append(request)
            connection.send(ANSWER)

    candidate.script = answer
    process, scorer = live()
    tell(process, scorer, asking(candidate))
    assert process.ask().endswith(b"ok")
    captured = captured_by(scorer)
    assert captured.baseline.body == b"ok"
    assert captured.candidate is not None
    assert (captured.candidate.failure, captured.candidate.status) == (None, 201)
    assert (captured.candidate.headers, captured.candidate.body) == (b"X-Model: next\r\n", b"[1]")
    assert captured.candidate.latency > 0.0
    copy = asked[-1].lower()
    assert copy.startswith(b"post /next/infer http/1.1\r\n")
    assert b"x-modelcanary-shadow: 1\r\n" in copy
    assert copy.endswith(b"\r\n\r\n{}")
    assert len(candidate.connections) == 1
    until(lambda: process.metric("scorer", "closed") == 1.0)


def test_what_must_be_read_to_be_copied_is_left_to_the_scorer(live: Live, candidate: RawModel) -> None:
    process, scorer = live()
    tell(process, scorer, asking(candidate, model=ModelReading(requestPatch={"probabilities": True})))
    process.ask()
    assert captured_by(scorer).candidate is None
    assert not candidate.connections


def test_a_candidate_that_hangs_is_a_pair_and_no_users_business(live: Live, candidate: RawModel) -> None:
    candidate.script = hang
    process, scorer = live()
    tell(process, scorer, asking(candidate, mirror=MirrorLimits(timeout=0.2, maxPairsPerSecond=1e6)))
    assert process.ask().endswith(b"ok")
    answer = captured_by(scorer).candidate
    assert answer is not None
    assert answer.failure is Outcome.TIMEOUT


def test_a_candidate_that_is_gone_is_spared_and_that_is_counted(live: Live, candidate: RawModel) -> None:
    process, scorer = live()
    tell(process, scorer, asking(candidate))
    candidate.stop()

    def open_breaker() -> bool:
        process.ask()
        return process.metric("scorer", "open") == 1.0

    until(open_breaker)

    def spared() -> bool:
        assert process.ask().endswith(b"ok")
        counts = process.admin_says("/metrics")
        return 'reason="shed"' in counts or 'reason="breaker"' in counts

    until(spared)


def test_what_is_asked_for_a_run_that_ends_counts_as_its_own(live: Live, candidate: RawModel) -> None:
    candidate.script = hang
    process, scorer = live()
    instructions = asking(candidate, mirror=MirrorLimits(timeout=60.0, maxPairsPerSecond=1e6))

    def asked() -> bool:
        scorer.tell(News(instructions, time.monotonic()))
        process.ask()
        return bool(candidate.connections)

    until(asked)
    scorer.tell(News(Instructions(2, "s"), time.monotonic()))
    dropped = dropped_by(scorer, "stopped")
    assert dropped.run == "r"
    assert dropped.counts["stopped"] >= 1


def test_at_the_end_the_candidate_is_waited_for(live: Live, candidate: RawModel) -> None:
    asked, may_answer = threading.Event(), threading.Event()

    def answer(connection: Connection) -> None:
        while request := connection.request():
            if b"/probe" not in request:
                asked.set()
                may_answer.wait(20.0)
            connection.send(OK)

    candidate.script = answer
    process, scorer = live()
    tell(process, scorer, asking(candidate, mirror=MirrorLimits(timeout=5.0, maxPairsPerSecond=1e6)))
    process.ask()
    until(asked.is_set)
    process.terminate()
    until(lambda: is_closed(process))  # nobody is served any more
    may_answer.set()
    answered = captured_by(scorer).candidate
    assert answered is not None
    assert answered.body == b"ok"
    assert process.stop() == 0


def test_the_live_process_does_not_carry_what_reads_answers() -> None:
    code = "import sys, modelcanary_sidecar.live; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
