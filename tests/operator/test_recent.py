"""The short memory of lists: fewer calls, never an answer from before a change that was heard of."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from tests.operator.fake_api import FakeApi
from tests.operator.fake_ledger import FakeLedger
from tests.operator.harness import KEY, Cluster, service

from modelcanary_gate.plan.phases import Phase
from modelcanary_operator.api import DEPLOYMENTS, NETWORK_POLICIES, REVISIONS, SCALED_OBJECTS, SERVICES, Kind, Object
from modelcanary_operator.errors import NotFound, Refused, Unavailable
from modelcanary_operator.recent import Recent


class Counting(FakeApi):
    """Counts reads; a list may be held up until `gate` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[str] = []
        self.clock = 0.0
        self.gate: asyncio.Event | None = None  # of those who ask while it is set
        self.error: Exception | None = None

    async def list(self, kind: Kind, namespace: str, labels: Any = None) -> list[Object]:
        self.reads.append(kind.plural)
        gate = self.gate
        found = await super().list(kind, namespace, labels)
        if gate is not None:
            await gate.wait()
        if self.error is not None:
            raise self.error
        return found

    def recent(self, **limits: Any) -> Recent:
        return Recent(self, lambda: self.clock, **limits)


def play(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(story, 30.0))


def names(found: list[Object]) -> list[str]:
    return [item["metadata"]["name"] for item in found]


def test_a_list_is_asked_for_once_until_it_is_old_or_changed() -> None:
    async def story() -> None:
        api = Counting()
        recent = api.recent()
        for _ in range(3):
            assert names(await recent.list(SERVICES, "team")) == []
        assert api.reads == ["services"]
        await recent.create(SERVICES, "team", service())
        assert names(await recent.list(SERVICES, "team")) == ["fraud"], "by its own write"
        await api.delete(SERVICES, "team", "fraud")
        assert names(await recent.list(SERVICES, "team")) == ["fraud"], "nobody has heard of it"
        recent.forget("services", "other")
        assert names(await recent.list(SERVICES, "team")) == ["fraud"]
        recent.forget("services", "team")
        assert names(await recent.list(SERVICES, "team")) == []
        await api.create(SERVICES, "team", service())
        api.clock += 11
        assert names(await recent.list(SERVICES, "team")) == ["fraud"], "and without a watch after some seconds"
        await recent.list(REVISIONS, "team", {"a": "1"})
        await recent.list(REVISIONS, "team", {"a": "2"})
        assert api.reads.count("controllerrevisions") == 2

    play(story())


def test_workloads_are_read_anew() -> None:
    async def story() -> None:
        api = Counting()
        recent = api.recent()
        for _ in range(3):
            await recent.list(DEPLOYMENTS, "team")
        assert len(api.reads) == 3

    play(story())


def test_an_answer_that_was_under_way_when_it_changed_is_not_kept() -> None:
    async def story() -> None:
        api = Counting()
        recent, api.gate = api.recent(), asyncio.Event()
        looks = [asyncio.create_task(recent.list(SERVICES, "team")) for _ in range(3)]
        while not api.reads:
            await asyncio.sleep(0)
        await FakeApi.create(api, SERVICES, "team", service())
        recent.forget("services", "team")
        api.gate.set()
        assert [await look for look in looks] == [[], [], []], "they asked before"
        assert api.reads == ["services"], "one for all"
        assert names(await recent.list(SERVICES, "team")) == ["fraud"]

    play(story())


def test_a_look_waits_for_anothers_answer_for_so_long_and_then_asks_for_itself() -> None:
    async def story() -> None:
        api = Counting()
        recent, api.gate = api.recent(patience=0.01), asyncio.Event()
        slow = asyncio.create_task(recent.list(SERVICES, "team"))
        while not api.reads:
            await asyncio.sleep(0)
        gate, api.gate = api.gate, None
        await FakeApi.create(api, SERVICES, "team", service())
        assert names(await recent.list(SERVICES, "team")) == ["fraud"], "the first hangs yet"
        assert api.reads == ["services"] * 2
        gate.set()
        assert await slow == [], "it asked before"
        assert names(await recent.list(SERVICES, "team")) == ["fraud"], "asked later, it is newer"
        assert api.reads == ["services"] * 2

    play(story())


def test_what_is_old_takes_no_room() -> None:
    async def story() -> None:
        api = Counting()
        recent = api.recent(most=4)
        for number in range(3):
            await recent.list(SERVICES, f"old-{number}")
        api.clock += 11
        for name in ("a", "b", "c", "d", "a", "b", "c", "d"):
            await recent.list(SERVICES, name)
        assert len(api.reads) == 3 + 4, "each once: the old ones were dropped, and not these for want of room"
        await recent.list(SERVICES, "e")
        await recent.list(SERVICES, "a")
        assert len(api.reads) == 3 + 4 + 2, "of more than there is room for, none is kept"

    play(story())


@pytest.mark.parametrize(
    ("error", "kept"), [(NotFound(404, "x"), True), (Refused(403, "x"), True), (Unavailable(0, "x"), False)]
)
def test_only_that_keda_is_not_there_is_remembered_of_errors(error: Exception, kept: bool) -> None:
    async def story() -> None:
        api = Counting()
        api.not_installed, api.error = set(), error
        recent = api.recent()
        for kind in (SCALED_OBJECTS, SCALED_OBJECTS, NETWORK_POLICIES, NETWORK_POLICIES):
            with pytest.raises(type(error)):
                await recent.list(kind, "team")
        assert api.reads.count("scaledobjects") == (1 if kept else 2)
        assert api.reads.count("networkpolicies") == 2

    play(story())


def test_a_look_costs_few_calls() -> None:
    async def story() -> None:
        api, ledger = FakeApi(), FakeLedger()
        calls: list[str] = []
        cluster = Cluster(api, ledger)
        cluster.granted = Recent(cluster.granted, lambda: 0.0)  # type: ignore[assignment]
        cluster.restart()
        await cluster.set_up()
        await cluster.settle()
        await cluster.push("model:2")
        await cluster.phase(Phase.SHADOWING)
        ledger.silent = True
        for _ in range(5):
            await cluster.look()

        def count(when: str, method: str, plural: str, name: str) -> None:
            if when == "before":
                calls.append(f"{method} {plural} {name}")

        api.saboteur = count
        await cluster.reconciler.reconcile(KEY)
        # The resource, the three Deployments and the pods.
        assert len(calls) == 5, calls

    play(story())
