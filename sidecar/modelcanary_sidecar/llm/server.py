"""One model's server: finds out how it scores texts, if at all, and has it score them.

`session` makes one per role. The server is probed with a text of ours before the first text of a user, and again after
a while where it could not do it. It must not know the other model.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import msgspec

from modelcanary_gate.vocabulary import Outcome, Role
from modelcanary_sidecar.asked import NOT_READ
from modelcanary_sidecar.capture import LiveAnswer
from modelcanary_sidecar.decoding.unreadable import Cause, Unread
from modelcanary_sidecar.llm.prompt import Prompt
from modelcanary_sidecar.llm.scoring import (
    Tokens,
    Way,
    body_of,
    loss_from,
    read,
    request_of,
    start_by_prompt,
    start_by_text,
)
from modelcanary_sidecar.mirrored import Patch, merge_patch, without
from modelcanary_sidecar.shadow import Shadow, Shed

logger = logging.getLogger(__name__)

#: A server that cannot score is asked again whether it can.
_AGAIN = 60.0
#: No model ends its text behind it: llama-cpp-python's answers show by the token more what their numbers are of.
_QUESTION, _ANSWER = "The capital of France is", " Paris, which lies on the"
_OUR_PROMPT = msgspec.json.encode({"prompt": _QUESTION})
_OUR_CHAT = msgspec.json.encode({"messages": [{"role": "user", "content": _QUESTION}]})

#: What became of one call; the pool answers it.
Asking = asyncio.Future[LiveAnswer | Shed]


@dataclass(frozen=True, slots=True)
class Score:
    """Of a reference, given its prompt."""

    loss: float  # nats, of all its tokens
    tokens: int


@dataclass(frozen=True, slots=True)
class Result:
    said: Score | Unread | Shed
    latency: float  # seconds that the server took
    spent: int  # tokens that it read


@dataclass(slots=True)
class _Spent:
    latency: float = 0.0
    tokens: int = 0


class Server:
    """`prefix`: of the paths there. `patch`: the resource's requestPatch."""

    def __init__(
        self,
        role: Role,
        pool: Shadow[Asking],
        prefix: bytes,
        patch: Patch | None,
        cap: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._role = role
        self._pool = pool
        self._prefix = prefix
        self._patch = patch
        self._cap = cap
        self._clock = clock
        self._ways: dict[bool, tuple[Way | Unread, float]] = {}  # of chats and of completions, and since when
        self._models: tuple[str, ...] = ()
        self._probing = asyncio.Lock()

    @property
    def capable(self) -> bool:
        """Whether it was found to score texts, by any endpoint."""
        return any(isinstance(way, Way) for way, _ in self._ways.values())

    async def score(self, prompt: Prompt, reference: str) -> Result:
        """By one call, or by two where it does not show which tokens are the reference's."""
        spent = _Spent()
        way = await self._way(prompt, spent)
        said: Score | Unread | Shed = (
            way if not isinstance(way, Way) else await self._score(way, prompt, reference, spent)
        )
        return Result(said, spent.latency, spent.tokens)

    async def _score(self, way: Way, prompt: Prompt, reference: str, spent: _Spent) -> Score | Unread | Shed:
        tokens = await self._tokens(way, prompt, reference, spent)
        if not isinstance(tokens, Tokens):
            return tokens
        start = start_by_text(tokens, reference)
        if start is None:
            alone = await self._tokens(way, prompt, None, spent)
            if not isinstance(alone, Tokens):
                return alone
            start = start_by_prompt(tokens, alone)
        loss = loss_from(tokens, start)
        return loss if isinstance(loss, Unread) else Score(loss, len(tokens) - start)

    async def _tokens(self, way: Way, prompt: Prompt, reference: str | None, spent: _Spent) -> Tokens | Unread | Shed:
        model = prompt.model if prompt.model in self._models or not self._models else self._models[0]
        body = body_of(way, prompt, model, reference)
        if self._patch is not None:
            patched = merge_patch(body, self._patch)
            body = patched if isinstance(patched, dict) else body
        answer = await self._ask(request_of(self._prefix + prompt.path, prompt.headers, body), spent)
        if isinstance(answer, Shed):
            return answer
        tokens = read(way, answer, self._cap)
        if isinstance(tokens, Tokens):
            spent.tokens += len(tokens) + 1  # and the one that it generates
        return tokens

    async def _ask(self, request: bytes, spent: _Spent) -> LiveAnswer | Shed:
        asking: Asking = asyncio.get_running_loop().create_future()
        shed = self._pool.offer(asking, request)
        if shed is not None:
            return shed
        answer = await asking  # the pool answers in time, or says that there is no answer
        if isinstance(answer, LiveAnswer):
            spent.latency += answer.latency
        return answer

    # probing

    async def _way(self, prompt: Prompt, spent: _Spent) -> Way | Unread | Shed:
        async with self._probing:
            known = self._ways.get(prompt.chat)
            if known is not None and (isinstance(known[0], Way) or self._clock() < known[1] + _AGAIN):
                return known[0]
            found = await self._probe(prompt, spent)
        if isinstance(found, Unread) and found.outcome is not Outcome.NO_PROMPT_LOGPROBS:
            return found  # no answer, or a failure: that says nothing of what it can do
        if not isinstance(found, Shed):
            self._ways[prompt.chat] = found, self._clock()
            said = f"scores by {found}" if isinstance(found, Way) else f"does not score: {found.message}"
            logger.info("the %s at %s %s", self._role, prompt.path.decode("latin-1"), said)
        return found

    async def _probe(self, prompt: Prompt, spent: _Spent) -> Way | Unread | Shed:
        models = await self._list_models(prompt, spent)
        if models is not None:
            self._models = models
        ours = replace(prompt, asked=_OUR_CHAT if prompt.chat else _OUR_PROMPT)
        refused: Unread | Shed | None = None
        for way in (Way.PROMPT_LOGPROBS,) if prompt.chat else tuple(Way):
            tokens = await self._tokens(way, ours, _ANSWER, spent)
            if isinstance(tokens, Tokens):
                doubt = _doubt(way, tokens)
                if doubt is None:
                    return way
                tokens = Unread(Outcome.NO_PROMPT_LOGPROBS, Cause.PROMPT_LOGPROBS, doubt)
            if isinstance(tokens, Unread) and _is_refusal(tokens):
                tokens = replace(tokens, outcome=Outcome.NO_PROMPT_LOGPROBS, cause=Cause.PROMPT_LOGPROBS)
            refused = refused or tokens
        return refused or Unread(Outcome.NO_PROMPT_LOGPROBS, Cause.PROMPT_LOGPROBS, "no way to ask")

    async def _list_models(self, prompt: Prompt, spent: _Spent) -> tuple[str, ...] | None:
        headers = without(prompt.headers, b"content-type")
        request = b"GET %b%b/models HTTP/1.1\r\n%b\r\n" % (self._prefix, prompt.base, headers)
        answer = await self._ask(request, spent)
        if isinstance(answer, Shed) or answer.failure is not None or answer.status >= 400:
            return None
        try:
            value = msgspec.json.decode(answer.body, type=_Models)
        except NOT_READ:
            return None
        return tuple(str(model["id"]) for model in value.data if isinstance(model.get("id"), str))


class _Models(msgspec.Struct):
    data: list[Mapping[str, object]]


def _is_refusal(unread: Unread) -> bool:
    """An answer to what was asked for: 400, 404, 422, 501; not one of a server that is ill, busy, or needs a key."""
    return unread.cause is Cause.STATUS and unread.message.removeprefix("status ") in ("400", "404", "422", "501")


def _doubt(way: Way, tokens: Tokens) -> str | None:
    """Why numbers of our text are not taken for what they seem to be.

    llama-cpp-python gives each token of a model without BOS the number of the place behind it, and as many numbers as
    were sent: with the token more they are one too few, or end before the answer does, and without it they look right.
    """
    whole = "".join(text or "" for text in tokens.texts)
    if not "".join(whole.split()).endswith("".join(_ANSWER.split())):  # but for spaces: some tokenizers leave them out
        return "what it scored does not end with the answer"
    if way is Way.ECHO and not tokens.more:
        return "it generated no token behind the answer, without which its numbers may be of the places behind"
    return None
