"""Tokens of ServiceAccounts: asks the Kubernetes API whose they are, and remembers the answers for a while.

Called by `auth`. Where the API does not answer, a token that it has known goes on until it expires, and one that it
has not is neither let in nor refused. It must not know HTTP, nor keep a token: answers are kept by its hash.
"""

import asyncio
import base64
import binascii
import hashlib
import logging
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import msgspec

from modelcanary_gate.protocol import AUDIENCE
from modelcanary_ledger import rights
from modelcanary_ledger.errors import NotReviewed, Unauthorized
from modelcanary_ledger.rights import Caller

log = logging.getLogger(__name__)

_ACCOUNT = "system:serviceaccount:"
_REMEDY = f"use a token of the audience {AUDIENCE}: kubectl create token ACCOUNT --audience {AUDIENCE}"


@dataclass(frozen=True, slots=True)
class ReviewLimits:
    """Seconds, and how many."""

    known: float = 120.0  # for which an answer holds: so long does a token go on whose pod or account is deleted
    unknown: float = 10.0
    pause: float = 2.0  # after a failure, in which the API is not asked again
    remembered: int = 10_000  # known tokens
    refused: int = 10_000  # unknown ones, apart, so that a flood of them forgets no known one
    pending: int = 64  # questions at once


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose a token is; `pod`: the one that it is bound to, empty if none."""

    username: str
    pod: str


class Api(Protocol):
    """`kube_api` is the real one."""

    async def review(self, token: str) -> Identity | None: ...

    async def close(self) -> None: ...


class _Claims(msgspec.Struct):
    aud: str | list[str] = ""
    exp: float = 0.0


@dataclass(frozen=True, slots=True)
class _Known:
    caller: Caller
    until: float  # when the API is asked again
    expires: float  # of the token itself


class TokenReview:
    """`operators`, `followers`: the accounts that may more than others, as the API names them."""

    def __init__(
        self,
        api: Api,
        operators: frozenset[str],
        clock: Callable[[], float],
        limits: ReviewLimits | None = None,
        followers: frozenset[str] = frozenset(),
    ) -> None:
        self._api = api
        self._operators = operators
        self._followers = followers
        self._clock = clock
        self._limits = limits or ReviewLimits()
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._refused: OrderedDict[bytes, float] = OrderedDict()
        self._pending: dict[bytes, asyncio.Future[Caller | None]] = {}
        self._paused_until = float("-inf")
        self._failing = False
        self._outcomes: Counter[str] = Counter()

    @property
    def outcomes(self) -> Counter[str]:
        """Of questions to the API."""
        return self._outcomes

    async def close(self) -> None:
        await self._api.close()

    async def review(self, token: str) -> Caller:
        """Raises Unauthorized, or NotReviewed."""
        claims = _claims(token)
        if claims is None:
            raise Unauthorized("the token is not known", remedy=_REMEDY)
        if AUDIENCE not in ([claims.aud] if isinstance(claims.aud, str) else claims.aud):
            raise Unauthorized("the token is meant for another server", remedy=_REMEDY)
        digest = hashlib.sha256(token.encode()).digest()
        now = self._clock()
        known = self._known.get(digest)
        if known is not None and now >= known.expires:
            del self._known[digest]
            known = None
        if known is not None and now < known.until:
            self._known.move_to_end(digest)
            return known.caller
        if known is None and now < self._refused.get(digest, now):
            raise _unknown()
        try:
            caller = await self._ask_once(token, digest, claims.exp)
        except NotReviewed:
            if known is None:
                raise
            # It was known, and it has not expired: an API that is away ends nobody's work.
            return known.caller
        if caller is None:
            raise _unknown()
        return caller

    async def _ask_once(self, token: str, digest: bytes, expires: float) -> Caller | None:
        """All who show the same token at once wait for one answer."""
        waiting = self._pending.get(digest)
        if waiting is not None:
            return await asyncio.shield(waiting)
        if self._clock() < self._paused_until:
            raise NotReviewed("the Kubernetes API did not answer a moment ago", remedy="send it again")
        if len(self._pending) >= self._limits.pending:
            self._outcomes["shed"] += 1
            raise NotReviewed("too many tokens wait to be reviewed", remedy="send it again")
        answer: asyncio.Future[Caller | None] = asyncio.get_running_loop().create_future()
        self._pending[digest] = answer
        try:
            caller = await self._ask(token, digest, expires)
        except BaseException as error:
            foreign = not isinstance(error, NotReviewed)
            answer.set_exception(NotReviewed("the review was broken off", remedy="send it again") if foreign else error)
            answer.exception()  # nobody may wait for it
            raise
        else:
            answer.set_result(caller)
            return caller
        finally:
            del self._pending[digest]

    async def _ask(self, token: str, digest: bytes, expires: float) -> Caller | None:
        try:
            identity = await self._api.review(token)
        except NotReviewed as error:
            self._outcomes["failed"] += 1
            self._paused_until = self._clock() + self._limits.pause
            if not self._failing:  # once per outage
                log.error("%s; %s", error.detail, error.remedy)
            self._failing = True
            raise
        if self._failing:
            log.warning("the Kubernetes API answers again")
            self._failing = False
        now = self._clock()
        caller = self._caller(identity) if identity is not None else None
        if caller is None:
            self._outcomes["unknown"] += 1
            self._known.pop(digest, None)
            self._refused[digest] = now + self._limits.unknown
            self._refused.move_to_end(digest)
            if len(self._refused) > self._limits.refused:
                self._refused.popitem(last=False)
            return None
        self._outcomes["known"] += 1
        self._known[digest] = _Known(caller, now + self._limits.known, expires)
        self._known.move_to_end(digest)
        if len(self._known) > self._limits.remembered:
            self._known.popitem(last=False)
        return caller

    def _caller(self, identity: Identity) -> Caller | None:
        """None where it is no ServiceAccount: nobody else has a namespace."""
        if identity.username in self._operators:
            return rights.operator(identity.username)
        if identity.username in self._followers:
            return rights.follower(identity.username)
        namespace, colon, name = identity.username.removeprefix(_ACCOUNT).partition(":")
        if not identity.username.startswith(_ACCOUNT) or not colon or not namespace or not name:
            return None
        return rights.account(identity.username, namespace, identity.pod)


def _claims(token: str) -> _Claims | None:
    """What a token says of itself; None where it is none of Kubernetes'.

    It is not believed: it only spares the API questions that it would answer with no. The time at which a token ends
    is used when the API has confirmed that very token.
    """
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        payload = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        return msgspec.json.decode(payload, type=_Claims)
    except (binascii.Error, ValueError, msgspec.DecodeError):
        return None


def _unknown() -> Unauthorized:
    return Unauthorized("the Kubernetes API does not know the token", remedy=_REMEDY)
