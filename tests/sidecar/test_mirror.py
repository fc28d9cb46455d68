"""From captured requests on the channel to pairs at the ledger, with a candidate and a ledger on real sockets."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from tests.sidecar.live_end import LiveEnd

from modelcanary_gate.protocol import Instructions, MirrorLimits, ModelReading
from modelcanary_gate.sampling import position
from modelcanary_gate.vocabulary import Outcome
from modelcanary_sidecar.capture import Captured, LiveAnswer
from modelcanary_sidecar.channel import News, ScorerEnd, make_ends
from modelcanary_sidecar.instructions import Standing
from modelcanary_sidecar.ledger_client import LedgerClient
from modelcanary_sidecar.mirror import Mirror
from modelcanary_sidecar.sender import Pace, Sender
from modelcanary_sidecar.settings import Address
from modelcanary_sidecar.tally import Tally

READING = ModelReading(classes=["a", "b"])
GOOD = b'{"predictions":[[0.75,0.25]]}'


def captured(id: str = "req-1", *, run: str = "run-1", **changes: Any) -> Captured:
    answer = LiveAnswer(None, 200, 0.01, b"", GOOD)
    request = Captured(id, False, time.time(), run, b"POST", b"/p", b"host: users\r\n", b'{"instances":[1]}', answer)
    return replace(request, **changes)


@dataclass
class Model:
    """A candidate; `answer` None: it never answers."""

    answer: bytes | None = b'{"predictions":[[0.5,0.5]]}'
    pause: float = 0.0
    port: int = 0
    status: int = 200
    requests: list[tuple[str, bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = int(head.lower().split("content-length: ")[1].split("\r\n")[0])
                self.requests.append((head, await reader.readexactly(length)))
                if self.answer is None:
                    await reader.read(-1)
                    return
                await asyncio.sleep(self.pause)
                head = b"HTTP/1.1 %d x\r\nContent-Length: %d\r\n\r\n" % (self.status, len(self.answer))
                writer.write(head + self.answer)
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()


@dataclass
class Running:
    mirror: Mirror
    live: LiveEnd
    model: Model
    ledger: Any
    tally: Tally
    figures: dict[str, float]  # as of the last report
    news: list[News] = field(default_factory=list)

    def hear(self) -> News | None:
        while (found := self.live.receive()) is not None:
            self.news.append(found)
        return self.news[-1] if self.news else None

    async def until_told(self, condition: Callable[[News], bool]) -> News:
        await until(lambda: (found := self.hear()) is not None and condition(found))
        return self.news[-1]

    async def until_counted(self, name: str, count: float) -> dict[str, float]:
        await until(lambda: self.figures.get(name) == count)
        return self.figures

    def offer(self, request: Captured) -> None:
        assert self.live.offer(request)


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.005)


@asynccontextmanager
async def mirror(
    stub_ledger: Any, instructions: Instructions, model: Model | None = None, baseline: Model | None = None
) -> AsyncIterator[Running]:
    """In the given instructions, the candidate `model` stands for the URL of the one that is started."""
    model, baseline = model or Model(), baseline or Model()
    servers = []
    for one in (model, baseline):
        servers.append(await asyncio.start_server(one.serve, "127.0.0.1", 0))
        one.port = servers[-1].sockets[0].getsockname()[1]
    if instructions.candidate == "model":
        instructions = replace(instructions, candidate=model.url)
    live, scorer = make_ends()
    async with stub_ledger(instructions) as ledger, LedgerClient(ledger.url, "n", "m", None) as client:
        tally, standing = Tally(), Standing()

        def hear(instructions: Instructions, asked: float) -> None:
            running.mirror.hear(instructions, asked)

        sender = Sender(client, "pod-1", hear, pace=Pace(0.02, 0.05))
        address, figures = Address("127.0.0.1", baseline.port), dict[str, float]()
        mirror = Mirror(sender, [ScorerEnd(scorer)], standing, tally, address, figures.update)
        running = Running(mirror, LiveEnd(live), model, ledger, tally, figures)
        task = asyncio.create_task(running.mirror.run())
        try:
            await running.until_told(lambda news: news.instructions.version == instructions.version)
            yield running
        finally:
            running.mirror.stop()
            await task
            for server in servers:
                server.close()
            live.close()
            scorer.close()


IN_RUN = Instructions(1, "run-1", "model", 1.0, model=READING)


def test_a_captured_request_becomes_a_pair(stub_ledger: Any) -> None:
    async def main() -> None:
        async with mirror(stub_ledger, IN_RUN) as at:
            request = captured()
            at.offer(request)
            await until(lambda: bool(at.ledger.pairs))
            (pair,) = at.ledger.pairs
            assert (pair.id, pair.index, pair.time) == ("req-1", 0, request.time)
            assert (pair.baseline.outcome, pair.candidate.outcome) == (Outcome.OK, Outcome.OK)
            assert pair.baseline.latency == 0.01
            assert pair.baseline.log_probabilities != pair.candidate.log_probabilities
            head, body = at.model.requests[0]
            assert head.startswith("POST /p HTTP/1.1\r\nhost: users\r\n")
            assert body == request.body
            assert at.ledger.batches[-1].run == "run-1"

    asyncio.run(main())


def test_a_request_larger_than_the_socket_comes_too(stub_ledger: Any) -> None:
    async def main() -> None:
        async with mirror(stub_ledger, IN_RUN) as at:
            at.offer(captured(body=b"x" * 600_000))
            await until(lambda: bool(at.ledger.pairs))
            assert at.model.requests[0][1] == b"x" * 600_000

    asyncio.run(main())


def test_the_prefix_and_the_patch_are_the_candidates(stub_ledger: Any) -> None:
    async def main() -> None:
        patched = replace(READING, requestPatch={"parameters": {"probabilities": True}})
        async with mirror(stub_ledger, replace(IN_RUN, candidate=None)) as at:
            at.ledger.instructions = replace(IN_RUN, version=2, candidate=at.model.url + "/next/", model=patched)
            await at.until_told(lambda news: news.instructions.version == 2)
            at.offer(captured())
            await until(lambda: bool(at.ledger.pairs))
            head, body = at.model.requests[0]
            assert head.startswith("POST /next/p HTTP/1.1\r\n")
            assert json.loads(body) == {"instances": [1], "parameters": {"probabilities": True}}

    asyncio.run(main())


def test_an_answer_from_the_live_path_is_not_asked_for_again(stub_ledger: Any) -> None:
    async def main() -> None:
        async with mirror(stub_ledger, IN_RUN) as at:
            at.offer(captured(candidate=LiveAnswer(Outcome.TIMEOUT, 0, 0.7, b"", b"")))
            await until(lambda: bool(at.ledger.pairs))
            assert at.ledger.pairs[0].candidate.outcome is Outcome.TIMEOUT
            assert at.ledger.pairs[0].candidate.latency == 0.7
            assert at.model.requests == []

    asyncio.run(main())


def test_a_hung_candidate_is_a_timeout_per_pair(stub_ledger: Any) -> None:
    async def main() -> None:
        limited = replace(IN_RUN, mirror=MirrorLimits(timeout=0.1))
        async with mirror(stub_ledger, limited, Model(answer=None)) as at:
            for number in range(3):
                at.offer(captured(f"req-{number}"))
            await until(lambda: len(at.ledger.pairs) == 3)
            assert {pair.candidate.outcome for pair in at.ledger.pairs} == {Outcome.TIMEOUT}

    asyncio.run(main())


def test_what_makes_no_pair_is_counted_by_reason(stub_ledger: Any) -> None:
    async def main() -> None:
        async with mirror(stub_ledger, replace(IN_RUN, share=0.5, candidate=None)) as at:
            at.offer(captured(run="run-0"))
            at.offer(captured())
            at.offer(captured(minted=True, body=b'{"id":"%b"}' % outside.encode()))
            at.offer(captured(minted=True, body=b'{"id":"%b"}' % inside.encode()))
            at.live.report_dropped("run-1", {"rate": 5})
            expected = {"runEnded": 1, "noCandidate": 2, "bodyId": 1, "rate": 5}
            await until(lambda: at.ledger.dropped == expected, 2.0)
            figures = await at.until_counted("mirror_dropped_total:noCandidate", 2.0)
            assert figures["mirror_dropped_total:bodyId"] == 1.0

    ids = [f"req-{number}" for number in range(100)]
    inside = next(id for id in ids if position(id) < 0.5)
    outside = next(id for id in ids if position(id) >= 0.5)
    asyncio.run(main())


def test_a_way_of_reading_that_cannot_be_followed_mirrors_nothing(
    stub_ledger: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with mirror(stub_ledger, replace(IN_RUN, model=ModelReading())) as at:
            at.offer(captured())
            await until(lambda: at.ledger.dropped == {"instructions": 1})
            assert at.model.requests == []
            assert "model.classes" in caplog.text
            # The next instructions can be followed.
            at.ledger.instructions = replace(IN_RUN, version=2, candidate=at.model.url)
            await at.until_told(lambda news: news.instructions.version == 2)
            at.offer(captured())
            await until(lambda: bool(at.ledger.pairs))

    asyncio.run(main())


@pytest.mark.parametrize(
    "url", ["https://127.0.0.1", "http://", "http://127.0.0.1:99999", "candidate:80", "http://[::1"]
)
def test_a_candidate_that_is_no_http_url_is_none(stub_ledger: Any, url: str) -> None:
    async def main() -> None:
        async with mirror(stub_ledger, replace(IN_RUN, candidate=url)) as at:
            at.offer(captured())
            await until(lambda: at.ledger.dropped == {"noCandidate": 1})

    asyncio.run(main())


def test_a_new_run_has_new_everything(stub_ledger: Any) -> None:
    async def main() -> None:
        async with mirror(stub_ledger, IN_RUN, Model(answer=None)) as at:
            at.offer(captured())
            await until(lambda: len(at.model.requests) == 1)
            at.model.answer = GOOD
            swapped = ModelReading(classes=["a", "b"], candidateClasses=["b", "a"])
            at.ledger.instructions = Instructions(2, "run-2", at.model.url, 1.0, model=swapped)
            await at.until_told(lambda news: news.instructions.run == "run-2")
            at.offer(captured(run="run-2"))
            await until(lambda: bool(at.ledger.pairs))
            (pair,) = at.ledger.pairs
            assert pair.baseline.log_probabilities is not None
            assert pair.candidate.log_probabilities is not None
            assert pair.candidate.log_probabilities == (
                pair.baseline.log_probabilities[4:] + pair.baseline.log_probabilities[:4]
            )
            await until(lambda: at.ledger.dropped == {"stopped": 1})
            assert [batch.run for batch in at.ledger.batches if batch.dropped] == ["run-1"]

    asyncio.run(main())


def test_news_renew_the_lease_and_say_what_goes_on(stub_ledger: Any) -> None:
    async def main() -> None:
        async with mirror(stub_ledger, IN_RUN) as at:
            first = at.news[-1].heard
            at.offer(captured())
            figures = await at.until_counted("candidate_pairs_total:ok", 1.0)
            later = await at.until_told(lambda news: news.heard > first + 0.5)
            assert later.heard <= time.monotonic()
            assert figures["baseline_pairs_total:ok"] == 1.0
            assert figures["breaker:closed"] == 1.0
            assert figures["breaker:open"] == 0.0
            assert figures["connections"] == 1.0

    asyncio.run(main())


def test_the_live_path_is_told_when_there_is_no_use_in_capturing(stub_ledger: Any) -> None:
    async def main() -> None:
        limited = replace(IN_RUN, mirror=MirrorLimits(timeout=5.0, maxInFlight=1))
        async with mirror(stub_ledger, limited, Model(answer=None)) as at:
            for number in range(250):
                at.offer(captured(f"req-{number}"))
            await at.until_told(lambda news: news.shedding)
            at.ledger.instructions = replace(limited, version=2, candidate=None)
            await at.until_told(lambda news: news.instructions.version == 2 and not news.shedding)

    asyncio.run(main())


def test_complaints_are_logged_seldom_and_counted_all(stub_ledger: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with mirror(stub_ledger, IN_RUN, Model(answer=b"<html>secret</html>")) as at:
            for number in range(5):
                at.offer(captured(f"req-{number}"))
            figures = await at.until_counted("candidate_unread_total:html", 5.0)
            assert figures["candidate_pairs_total:undecodable"] == 5.0
            complaints = [record.getMessage() for record in caplog.records if "HTML" in record.getMessage()]
            assert len(complaints) == 1
            assert complaints[0].startswith("the candidate's answer")
            assert "secret" not in caplog.text

    asyncio.run(main())


def test_at_the_end_all_that_was_captured_is_sent(stub_ledger: Any) -> None:
    async def main() -> None:
        async with mirror(stub_ledger, IN_RUN, Model(pause=0.3)) as at:
            for number in range(50):
                at.offer(captured(f"req-{number}"))
            at.mirror.stop()
            await until(lambda: len(at.ledger.pairs) == 50)

    asyncio.run(main())


def test_at_the_end_what_lies_in_the_socket_is_read(stub_ledger: Any) -> None:
    async def main() -> None:
        live, scorer = make_ends()
        async with stub_ledger(IN_RUN) as ledger, LedgerClient(ledger.url, "n", "m", None) as client:
            sender = Sender(client, "pod-1", lambda instructions, asked: None)
            ends, baseline = [ScorerEnd(scorer)], Address("127.0.0.1", 9)
            ending = Mirror(sender, ends, Standing(), Tally(), baseline, lambda figures: None)
            ending.hear(replace(IN_RUN, candidate=None), time.monotonic())
            for number in range(200):
                request = captured(f"req-{number}", candidate=LiveAnswer(None, 200, 0.1, b"", GOOD))
                assert LiveEnd(live).offer(request)
            ending.stop()
            await ending.run()
            assert len(ledger.pairs) == 200
        live.close()
        scorer.close()

    asyncio.run(main())


def test_a_message_that_is_none_of_ours_does_not_end_the_scorer(stub_ledger: Any) -> None:
    async def main() -> None:
        async with mirror(stub_ledger, IN_RUN) as at:
            at.live._socket.send(b"Cnonsense")
            at.live._socket.send(b"?")
            at.offer(captured())
            await until(lambda: bool(at.ledger.pairs))
            await until(lambda: at.ledger.dropped == {"frame": 2})

    asyncio.run(main())


def test_drops_of_a_run_that_the_scorer_has_not_heard_of_are_kept(stub_ledger: Any) -> None:
    """A scorer that was started again reads what the one before it has left."""

    async def main() -> None:
        async with mirror(stub_ledger, Instructions(0)) as at:
            at.live.report_dropped("run-1", {"silence": 7})
            await until(lambda: at.ledger.dropped == {"silence": 7})

    asyncio.run(main())


def test_instructions_that_do_not_fit_are_missed_aloud(stub_ledger: Any, caplog: pytest.LogCaptureFixture) -> None:
    huge = replace(IN_RUN, model=replace(READING, requestPatch={"x": "y" * (6 << 20)}))

    async def main() -> None:
        async with mirror(stub_ledger, IN_RUN) as at:
            at.ledger.instructions = huge
            await until(lambda: "cannot be told the instructions" in caplog.text)

    asyncio.run(main())


LABELS = LiveAnswer(None, 200, 0.01, b"", b'{"predictions":[1]}')
SCORING = replace(
    IN_RUN,
    model=replace(READING, requestPatch={"return_proba": True}),
    mirror=MirrorLimits(scoringCopy=True),
)


def test_a_baseline_that_answers_labels_is_asked_once_more(stub_ledger: Any) -> None:
    async def main() -> None:
        baseline = Model(answer=GOOD)
        async with mirror(stub_ledger, SCORING, baseline=baseline) as at:
            at.offer(captured(baseline=LABELS))
            await until(lambda: bool(at.ledger.pairs))
            (pair,) = at.ledger.pairs
            assert (pair.baseline.outcome, pair.candidate.outcome) == (Outcome.OK, Outcome.OK)
            assert pair.baseline.latency == 0.01  # what the user waited, and not how long the copy took
            for model in (baseline, at.model):
                assert [json.loads(body) for _, body in model.requests] == [{"instances": [1], "return_proba": True}]

    asyncio.run(main())


def test_a_baseline_that_answers_probabilities_is_not_asked_again(stub_ledger: Any) -> None:
    async def main() -> None:
        baseline = Model(answer=GOOD)
        async with mirror(stub_ledger, SCORING, baseline=baseline) as at:
            at.offer(captured())
            await until(lambda: bool(at.ledger.pairs))
            assert baseline.requests == []

    asyncio.run(main())


def test_nor_where_nobody_asked_for_it(stub_ledger: Any) -> None:
    async def main() -> None:
        baseline = Model(answer=GOOD)
        async with mirror(stub_ledger, replace(SCORING, mirror=MirrorLimits()), baseline=baseline) as at:
            at.offer(captured(baseline=LABELS))
            await until(lambda: bool(at.ledger.pairs))
            assert at.ledger.pairs[0].baseline.outcome is Outcome.LABELS_ONLY
            assert baseline.requests == []

    asyncio.run(main())


@pytest.mark.parametrize("status", [200, 500])
def test_a_scoring_copy_that_fails_is_no_failure_of_the_baselines(stub_ledger: Any, status: int) -> None:
    async def main() -> None:
        baseline = Model(answer=None if status == 200 else GOOD, status=status)
        brief = replace(SCORING, mirror=MirrorLimits(scoringCopy=True, timeout=0.2))
        async with mirror(stub_ledger, brief, baseline=baseline) as at:
            at.offer(captured(baseline=LABELS))
            await until(lambda: any(batch.dropped for batch in at.ledger.batches))
            assert at.ledger.batches[-1].dropped == {"scoringCopy": 1}
            assert at.ledger.pairs == []
            assert at.model.requests == []

    asyncio.run(main())
