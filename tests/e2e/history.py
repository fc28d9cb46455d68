"""What happened to the objects of a namespace, in the order of the API server's own revisions.

Filled by `Observer` from watches of the whole cluster, read by `team` while it waits and by `invariants` at the end.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from tests.e2e.errors import Missed
from tests.e2e.kube import Cluster

from modelcanary_operator.api import (
    AUTOSCALERS,
    CANARIES,
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    EVENTS,
    PODS,
    SERVICES,
    Kind,
    Object,
)

WATCHED = (CANARIES, DEPLOYMENTS, SERVICES, PODS, ENDPOINT_SLICES, AUTOSCALERS, EVENTS)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Seen:
    """One change of one object."""

    at: float  # when the harness heard of it, seconds since the epoch
    kind: Kind
    name: str
    body: Object | None  # None: it was deleted
    revision: int

    def status(self, *path: str) -> object:
        return dig(self.body, "status", *path)


@dataclass(slots=True)
class History:
    """Of one namespace."""

    seen: list[Seen] = field(default_factory=list)
    current: dict[tuple[str, str], Object] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, what: str, kind: Kind, body: Object) -> None:
        name, gone = body["metadata"]["name"], what == "DELETED"
        before = self.current.get((kind.plural, name))
        if (
            before is not None
            and not gone
            and before["metadata"]["resourceVersion"] == body["metadata"]["resourceVersion"]
        ):
            return  # of a watch that began anew
        if gone:
            self.current.pop((kind.plural, name), None)
        else:
            self.current[kind.plural, name] = body
        revision = int(body["metadata"]["resourceVersion"])
        self.seen.append(Seen(time.time(), kind, name, None if gone else body, revision))
        self._changed.set()

    def get(self, kind: Kind, name: str) -> Object | None:
        return self.current.get((kind.plural, name))

    def all(self, kind: Kind) -> list[Object]:
        return [body for (plural, _), body in self.current.items() if plural == kind.plural]

    def of(self, kind: Kind, name: str | None = None) -> list[Seen]:
        """The changes of a kind, in the order of their revisions."""
        found = [each for each in self.seen if each.kind is kind and name in (None, each.name)]
        return sorted(found, key=lambda each: each.revision)

    async def until(self, found: Callable[[], T | None], what: str, seconds: float, else_: Callable[[], str]) -> T:
        """What `found` returns when it is neither None nor False. Raises Missed with what there was instead."""
        deadline = time.monotonic() + seconds
        while True:
            self._changed.clear()
            result = found()
            if result is not None and result is not False:
                return result
            left = deadline - time.monotonic()
            if left <= 0:
                raise Missed(f"not within {seconds:g} s: {what}; {else_()}")
            try:
                async with asyncio.timeout(min(left, 5.0)):
                    await self._changed.wait()
            except TimeoutError:
                continue


class Observer:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.histories: dict[str, History] = defaultdict(History)

    @asynccontextmanager
    async def watching(self) -> AsyncIterator["Observer"]:
        tasks = [asyncio.create_task(self._watch(kind)) for kind in WATCHED]
        try:
            yield self
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self, kind: Kind) -> None:
        async for what, body in self._cluster.watch(kind):
            self.histories[body["metadata"]["namespace"]].add(what, kind, body)


def dig(found: object, *path: str) -> object:
    for name in path:
        if not isinstance(found, dict):
            return None
        found = found.get(name)
    return found
