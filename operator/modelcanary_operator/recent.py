"""The API with a short memory: what looks ask again and again, and what seldom changes, is listed once for all of them.

Made by `main` around `kube`, before the looks. A list is forgotten when the watch hears of a change of its kind, when
this process writes one, and after some seconds in any case, for changes that nobody watches. So what a plan rests on
is at most that old; writes repeat the version that was read, and have no effect where it is not the present one.
Workloads, pods and the resource itself are always read anew.
"""

import asyncio
import builtins
import time
from collections.abc import Callable, Mapping

from modelcanary_operator.api import (
    AUTOSCALERS,
    CLAIMS,
    NETWORK_POLICIES,
    REVISIONS,
    SCALED_OBJECTS,
    SERVICES,
    Api,
    Kind,
    Object,
)
from modelcanary_operator.errors import NotFound, Refused

_KEPT = frozenset({AUTOSCALERS, CLAIMS, NETWORK_POLICIES, REVISIONS, SCALED_OBJECTS, SERVICES})
_SECONDS = 10.0
#: KEDA that is not installed, or may not be seen, seldom comes.
_ABSENT_SECONDS = 60.0
_MOST = 4096
#: A call's time limit (10 s) and its turn in the line: who asks for others has an answer or an error by then.
_PATIENCE = 15.0

_Key = tuple[str, str, tuple[tuple[str, str], ...]]  # plural, namespace, labels
_Answer = builtins.list[Object] | NotFound | Refused


class Recent:
    """Implements `api.Api`. `most`: answers that are kept; `patience`: seconds of waiting for another's answer."""

    def __init__(
        self, api: Api, clock: Callable[[], float] = time.monotonic, most: int = _MOST, patience: float = _PATIENCE
    ) -> None:
        self._api = api
        self._clock = clock
        self._most = most
        self._patience = patience
        self._known: dict[_Key, tuple[float, _Answer]] = {}  # until when
        self._asked: dict[_Key, asyncio.Future[_Answer]] = {}  # the last of each; none that may be too old

    def forget(self, plural: str, namespace: str) -> None:
        """Something of this kind has changed; an answer that is under way may be too old."""
        for key in [key for key in self._known if key[:2] == (plural, namespace)]:
            del self._known[key]
        for key in [key for key in self._asked if key[:2] == (plural, namespace)]:
            del self._asked[key]

    async def get(self, kind: Kind, namespace: str, name: str) -> Object:
        return await self._api.get(kind, namespace, name)

    async def list_metadata(self, kind: Kind, namespace: str, labels: Mapping[str, str]) -> builtins.list[Object]:
        return await self._api.list_metadata(kind, namespace, labels)

    async def list(self, kind: Kind, namespace: str, labels: Mapping[str, str] | None = None) -> builtins.list[Object]:
        if kind not in _KEPT:
            return await self._api.list(kind, namespace, labels)
        key = (kind.plural, namespace, tuple(sorted((labels or {}).items())))
        until, answer = self._known.get(key, (0.0, []))
        if until <= self._clock():
            answer = await self._ask(key, kind, namespace, labels)
        if isinstance(answer, Exception):
            raise answer.with_traceback(None)  # else each raise would add to it
        return answer

    async def create(self, kind: Kind, namespace: str, body: Object) -> Object:
        try:
            return await self._api.create(kind, namespace, body)
        finally:
            self.forget(kind.plural, namespace)

    async def replace(self, kind: Kind, namespace: str, name: str, body: Object, subresource: str = "") -> Object:
        try:
            return await self._api.replace(kind, namespace, name, body, subresource)
        finally:
            self.forget(kind.plural, namespace)

    async def merge(self, kind: Kind, namespace: str, name: str, patch: Object) -> Object:
        try:
            return await self._api.merge(kind, namespace, name, patch)
        finally:
            self.forget(kind.plural, namespace)

    async def delete(self, kind: Kind, namespace: str, name: str, version: str | None = None) -> None:
        try:
            await self._api.delete(kind, namespace, name, version)
        finally:
            self.forget(kind.plural, namespace)

    async def _ask(self, key: _Key, kind: Kind, namespace: str, labels: Mapping[str, str] | None) -> _Answer:
        """Of looks that ask at the same time, one does; where it fails or takes too long, each asks for itself."""
        asked = self._asked.get(key)
        if asked is not None:
            await asyncio.wait([asked], timeout=self._patience)
            if asked.done() and not asked.cancelled():
                return asked.result()
        asked = self._asked[key] = asyncio.get_running_loop().create_future()
        seconds = _SECONDS
        try:
            answer: _Answer = await self._api.list(kind, namespace, labels)
        except BaseException as error:
            if kind is not SCALED_OBJECTS or not isinstance(error, NotFound | Refused):
                asked.cancel()
                raise
            answer, seconds = error, _ABSENT_SECONDS
        finally:
            # Not where it was forgotten meanwhile, or somebody has asked later: then this answer is not the newest.
            newest = self._asked.get(key) is asked
            if newest:
                del self._asked[key]
        asked.set_result(answer)
        if newest:
            self._keep(key, seconds, answer)
        return answer

    def _keep(self, key: _Key, seconds: float, answer: _Answer) -> None:
        now = self._clock()
        for old in [old for old, (until, _) in self._known.items() if until <= now]:
            del self._known[old]
        if len(self._known) >= self._most:
            self._known.clear()
        self._known[key] = (now + seconds, answer)
