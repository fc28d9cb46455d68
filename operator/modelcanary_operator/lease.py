"""Leadership by a Lease: at most one operator works at a time, as far as a lease can promise.

Run by `main`. Time is measured by this process's own monotonic clock: another holder's lease has run out when it did
not change for its whole term since this process saw it last. Each write repeats the version that was read. A lease is
no fence: that a former leader's late write has no effect is seen to by the writes themselves.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from modelcanary_operator.api import LEASES, Api, Object
from modelcanary_operator.errors import ApiError, Conflict, LeaseLost, NotFound
from modelcanary_operator.names import PREFIX
from modelcanary_operator.status_json import moment

_log = logging.getLogger(__name__)
NAME = "modelcanary-operator"
#: Annotation of the Lease.
EPOCH = f"{PREFIX}/epoch"


@dataclass(frozen=True, slots=True)
class Terms:
    """Seconds. A call's limit is below the period, so that a call that hangs costs one try and not the lease."""

    term: float = 15.0
    deadline: float = 10.0  # without a renewal for so long, this process is no leader any more
    period: float = 2.0
    call: float = 1.5


class Lease:
    def __init__(
        self,
        api: Api,
        namespace: str,
        identity: str,
        terms: Terms | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._identity = identity
        self._terms = terms or Terms()
        self._clock, self._wall, self._sleep = clock, wall, sleep
        self._seen: tuple[object, ...] = ()
        self._seen_at = clock()
        self._renewed = clock()
        self.epoch = 0  # of this leadership; higher than those before

    async def acquire(self) -> int:
        """Waits until this process leads; its epoch."""
        while not await self._tried(self._try_to_take):
            await self._sleep(self._terms.period)
        _log.info("leading, epoch %d, as %s", self.epoch, self._identity)
        return self.epoch

    async def hold(self) -> None:
        """Renews for ever. Raises LeaseLost."""
        while True:
            await self._sleep(self._terms.period)
            began = self._clock()
            if await self._tried(self._try_to_renew):
                self._renewed = began
            elif self._clock() - self._renewed >= self._terms.deadline:
                raise LeaseLost(f"the lease was not renewed for {self._terms.deadline:g} s")

    async def release(self) -> None:
        """At the end, so that the next one need not wait for the term."""

        async def give_up() -> bool:
            found = await self._api.get(LEASES, self._namespace, NAME)
            if found["spec"].get("holderIdentity") == self._identity:
                found["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
                await self._api.replace(LEASES, self._namespace, NAME, found)
            return True

        await self._tried(give_up)

    async def _tried(self, step: Callable[[], Awaitable[bool]]) -> bool:
        try:
            async with asyncio.timeout(self._terms.call):
                return await step()
        except (ApiError, TimeoutError) as error:
            _log.warning("lease: %s", str(error) or type(error).__name__)
            return False

    async def _try_to_take(self) -> bool:
        before = self._clock()
        try:
            found = await self._api.get(LEASES, self._namespace, NAME)
        except NotFound:
            body = {
                "apiVersion": LEASES.api_version,
                "kind": LEASES.kind,
                "metadata": {"name": NAME, "namespace": self._namespace},
                "spec": self._spec({}, 0),
            }
            epoch = self._number(body)
            await self._api.create(LEASES, self._namespace, body)
            return self._took(epoch, before)
        spec = found["spec"]
        seen = (found["metadata"].get("uid"), spec.get("holderIdentity"), spec.get("renewTime"))
        if seen != self._seen:
            self._seen, self._seen_at = seen, self._clock()
        term = float(spec.get("leaseDurationSeconds") or self._terms.term)
        free = not spec.get("holderIdentity") or self._clock() - self._seen_at >= term
        if not free:
            return False
        found["spec"] = self._spec(spec, int(spec.get("leaseTransitions") or 0) + 1)
        epoch = self._number(found)
        await self._api.replace(LEASES, self._namespace, NAME, found)
        return self._took(epoch, before)

    def _took(self, epoch: int, before: float) -> bool:
        self._renewed = before
        self.epoch = epoch
        return True

    def _number(self, lease: Object) -> int:
        """The next epoch, noted on the lease. Seconds of the clock, unless it was set back: a ledger outlives the lease
        where the release is taken away and comes again, and would refuse an epoch that began from 1."""
        noted = lease["metadata"].get("annotations") or {}
        epoch = max(int(noted.get(EPOCH) or 0) + 1, int(self._wall()))
        lease["metadata"]["annotations"] = {**noted, EPOCH: str(epoch)}
        return epoch

    async def _try_to_renew(self) -> bool:
        found = await self._api.get(LEASES, self._namespace, NAME)
        if found["spec"].get("holderIdentity") != self._identity:
            raise LeaseLost(f"{found['spec'].get('holderIdentity') or 'nobody'} has the lease")
        found["spec"]["renewTime"] = moment(self._wall())
        try:
            await self._api.replace(LEASES, self._namespace, NAME, found)
        except Conflict:
            return False  # somebody wrote to it: read it again
        return True

    def _spec(self, spec: Object, transitions: int) -> Object:
        now = moment(self._wall())
        return {
            **spec,
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(1, int(self._terms.term)),
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": transitions,
        }
