"""A session over two servers: whatever a server answers and a user asks, it ends as a pair or as a counted drop."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.sidecar.llm.language_model import LanguageModel, Served, serving

from modelcanary_gate.protocol import Instructions, MirrorLimits, ModelReading, Pair, References
from modelcanary_gate.vocabulary import Outcome, Role
from modelcanary_sidecar.capture import Captured, LiveAnswer
from modelcanary_sidecar.llm.server import Asking, Server
from modelcanary_sidecar.llm.session import Session, settle
from modelcanary_sidecar.pairing import KeyMint
from modelcanary_sidecar.shadow import Shadow, ShadowLimits
from modelcanary_sidecar.tally import Tally

CAP = 1 << 20
CHAT = b"/v1/chat/completions"


class Spoiled(LanguageModel):
    """Says one number of every token."""

    def __init__(self, number: float) -> None:
        super().__init__()
        self.number = number

    def logprobs(self, tokens: list[int]) -> list[float | None]:
        return [None, *(self.number for _ in tokens[1:])]


def asked(id: str, body: bytes, path: bytes = b"/v1/completions") -> Captured:
    said = {"choices": [{"index": 0, "text": " Paris.", "message": {"content": " Paris."}}]}
    answer = LiveAnswer(None, 200, 0.1, b"", json.dumps(said).encode())
    return Captured(id, False, 1.0, "run", b"POST", path, b"Host: model\r\n", body, answer)


def question(id: str, **more: Any) -> Captured:
    return asked(id, json.dumps({"model": "tiny", "prompt": "The capital of France is", **more}).encode())


class Heard:
    """What a session emits and drops."""

    def __init__(self) -> None:
        self.pairs: list[Pair] = []
        self.dropped: Counter[str] = Counter()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(60):
            while len(self.pairs) + self.dropped.total() < count:
                await asyncio.sleep(0.02)


@asynccontextmanager
async def session(heard: Heard, baseline: Served, candidate: Served) -> AsyncIterator[Session]:
    """Its task's failure is the test's."""
    limits = ShadowLimits(timeout=20.0, connections=4, body_bytes=1 << 22)
    pools, servers = [], {}
    for role, served in ((Role.BASELINE, baseline), (Role.CANDIDATE, candidate)):
        address = urlsplit(served.url)
        pools.append(Shadow[Asking](address.hostname or "", address.port or 0, limits, settle, settle))
        servers[role] = Server(role, pools[-1], b"", None, limits.body_bytes)

    async def nothing(_: str) -> References:
        return References("", [])

    def drop(_: str, reason: str) -> None:
        heard.dropped[reason] += 1

    instructions = Instructions(
        version=1,
        run="run",
        model=ModelReading(protocol="openai"),
        mirror=MirrorLimits(maxBodyBytes=CAP, maxTokensPerSecond=1e6),
    )
    made = Session(
        instructions, servers, pools, KeyMint(), Tally(), lambda _, pair: heard.pairs.append(pair), drop, nothing
    )
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(made.run())
        yield made
        made.stop()


@pytest.mark.parametrize("number", [-1e39, -(10**400), 10**400, -1.7e308, -3.4e38], ids=lambda number: str(number)[:8])
def test_numbers_that_no_pair_can_hold_are_the_candidates_outcome(number: float) -> None:
    heard = Heard()

    async def run(baseline: Served, candidate: Served) -> None:
        async with session(heard, baseline, candidate) as at:
            at.take(question("a"))
            await heard.until(1)
            candidate.model = baseline.model
            at.take(question("b"))  # it goes on
            await heard.until(2)

    with ExitStack() as stack:
        baseline, candidate = (
            stack.enter_context(serving(Served(model))) for model in (LanguageModel(), Spoiled(number))
        )
        asyncio.run(run(baseline, candidate))
    assert [pair.candidate.outcome for pair in heard.pairs] == [Outcome.NON_FINITE, Outcome.OK]
    assert [pair.baseline.outcome for pair in heard.pairs] == [Outcome.OK, Outcome.OK]


def test_what_a_user_nests_too_deeply_to_be_sent_again_is_no_prompt() -> None:
    """The encoder's limit depends on its caller's depth: what was read could not be written by a session."""
    heard = Heard()
    depths = (50, 150, 900, 940, 990, 100_000)

    async def run(baseline: Served, candidate: Served) -> None:
        async with session(heard, baseline, candidate) as at:
            for depth in depths:
                nested = b"[" * depth + b"]" * depth
                body = b'{"model":"tiny","messages":[{"role":"user","content":"a","x":%b}]}' % nested
                at.take(asked(str(depth), body, CHAT))
            await heard.until(len(depths))

    with ExitStack() as stack:
        baseline, candidate = (stack.enter_context(serving(Served())) for _ in range(2))
        asyncio.run(run(baseline, candidate))
    assert heard.dropped == {"promptNotText": len(depths) - 1}
    assert [pair.id for pair in heard.pairs] == ["50"]


def test_a_list_of_models_that_cannot_be_read_is_none() -> None:
    heard = Heard()

    async def run(baseline: Served, candidate: Served) -> None:
        async with session(heard, baseline, candidate) as at:
            at.take(question("a"))
            await heard.until(1)

    with ExitStack() as stack:
        baseline, candidate = (stack.enter_context(serving(Served(nested=depth))) for depth in (0, 100_000))
        asyncio.run(run(baseline, candidate))
    assert [pair.candidate.outcome for pair in heard.pairs] == [Outcome.OK]


def test_what_waits_to_be_scored_is_bounded_in_bytes() -> None:
    heard, gauges = Heard(), []

    async def run(baseline: Served, candidate: Served) -> None:
        async with session(heard, baseline, candidate) as at:
            for number in range(20):  # of which none is taken on before all have come
                at.take(asked(str(number), json.dumps({"prompt": "a" * 900_000}).encode()))
            gauges.append(at.gauges()["queued_bytes"])
        gauges.append(at.gauges()["queued_bytes"])

    with ExitStack() as stack:
        baseline, candidate = (stack.enter_context(serving(Served())) for _ in range(2))
        asyncio.run(run(baseline, candidate))
    assert heard.dropped == {"scoringQueue": 11, "stopped": 9}
    assert 8e6 < gauges[0] < 8 << 20
    assert gauges[1] == 0.0
