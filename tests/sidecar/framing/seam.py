"""One client's bytes, and one model's, through the live path without sockets, cut as the caller likes.

`targets` (fuzzing) and `test_splits` use it: whatever the cuts, the same must come of it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from tests.sidecar.framing.reading import Asked, BadAnswerError, RequestStream, read_answer
from tests.sidecar.live_path.conftest import Client, Model, Stage

from modelcanary_sidecar.settings import Limits

_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the model was asked, whole, and what the client was told."""

    asked: tuple[Asked, ...]
    statuses: tuple[int, ...]
    ended: bool


class UnreadableError(AssertionError):
    """A strict reader cannot read what the sidecar wrote."""


def pieces_of(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    places = [0, *sorted({cut for cut in cuts if 0 < cut < len(data)}), len(data)]
    return [data[start:end] for start, end in pairwise(places)]


def _stage() -> Stage:
    stage = Stage(_LIMITS)
    stage.state._unique = "0" * 8  # of minted ids, so that two conversations can be compared
    return stage


_HEAD = re.compile(rb"HEAD [^\r\n ]+ HTTP/1")
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@lru_cache(maxsize=4096)
def _read_model(sent: bytes) -> tuple[list[Asked], bool]:
    """The requests in what one connection to the model got, and whether the last is whole."""
    stream = RequestStream()
    stream.feed(sent)
    if stream.error:
        raise UnreadableError(f"the model cannot read {sent!r}: {stream.error}")
    return stream.read, stream.between


def converse(pieces: Sequence[bytes]) -> Outcome:
    """A client sends the pieces; a model answers each request as soon as it has it whole."""
    stage = _stage()
    client = stage.client()
    got: dict[Model, bytes] = {}
    asked: list[Asked] = []
    told = b""
    for piece in pieces:
        if client.port.ended:
            break
        client.sends(piece)
        told += _answer_all(stage, client, got, asked)
    ended = bool(client.port.ended)
    if not ended:
        client.leaves()
    return Outcome(tuple(asked), _statuses(told, asked, b"".join(pieces)), ended)


def _answer_all(stage: Stage, client: Client, got: dict[Model, bytes], asked: list[Asked]) -> bytes:
    """Have the models answer until there is nothing more to answer; what the client was told."""
    told = b""
    moved = True
    while moved:
        moved = False
        stage.open()
        for model in stage.models:
            if model.port.ended:
                continue
            got[model] = got.get(model, b"") + model.gets()
            if not got[model]:
                continue
            read, whole = _read_model(got[model])
            if read and whole:
                if len(read) > 1:
                    raise UnreadableError(f"more than one request at a time: {got[model]!r}")
                asked += read
                got[model] = b""
                moved = True
                model.sends(_OK.replace(b"ok", b"") if read[0].method == b"HEAD" else _OK)
        told += client.gets()
    return told


def _statuses(told: bytes, asked: Sequence[Asked], sent: bytes) -> tuple[int, ...]:
    """Of the answers to what was asked, and of the refusal behind them, whose request may have been a HEAD."""
    methods = [one.method for one in asked]
    statuses: list[int] = []
    while told and told != _CONTINUE:  # the client was told to go on, and left
        method = methods[len(statuses)] if len(statuses) < len(methods) else b"GET"
        if len(statuses) >= len(methods) and _HEAD.search(sent) and told.endswith(b"\r\n\r\n"):
            method = b"HEAD"
        try:
            read = read_answer(method, told, ended=True)
        except BadAnswerError as error:
            raise UnreadableError(str(error)) from error
        if read is None or not read[0].whole:
            raise UnreadableError(f"half an answer: {told!r}")
        answer, told = read
        if told and answer.closes:
            raise UnreadableError(f"more behind the last answer: {told!r}")
        statuses.append(answer.status)
    return tuple(statuses)


@dataclass(frozen=True, slots=True)
class Answered:
    """What a client got of one answer of a model."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    whole: bool
    reused: bool


def relay(method: bytes, version: bytes, pieces: Sequence[bytes], ends: bool) -> Answered | None:
    """A model answers with the pieces, and closes behind them if it `ends`; None: the client waits."""
    stage = _stage()
    client = stage.client()
    client.sends(b"%b / HTTP/%b\r\nHost: a\r\nX-Request-Id: i\r\n\r\n" % (method, version))
    stage.open()
    model = stage.models[0]
    for piece in pieces:
        if model.port.ended:
            break
        model.sends(piece)
    if ends and not model.port.ended:
        model.closes()
    told = client.gets()
    ended = client.port.ended in ("eof", "close", "abort")
    reused = not model.port.ended and not ends
    if not ended:
        client.leaves()
    if not told and not ended:
        return None
    try:
        read = read_answer(method, told, ended=ended)
    except BadAnswerError as error:
        raise UnreadableError(str(error)) from error
    if read is None:
        return None
    answer, rest = read
    if rest:
        raise UnreadableError(f"more than one answer: {told!r}")
    whole = answer.whole and client.port.ended != "abort"  # a reset, which HTTP/1.0's client takes for no end
    return Answered(answer.status, answer.headers, answer.body, whole, reused)
