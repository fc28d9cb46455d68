"""One captured request with its answer, and how it is laid out between the live process and the scorer.

The live process packs (`sidecar/live/src/capture.rs`), the scorer unpacks. A fixed header and the bytes behind it,
because packing happens next to the live path: no encoder looks at the bodies. This module must not know sockets
(`channel` does), nor what the bodies mean (the scorer's decoders do).
"""

import struct
from dataclasses import dataclass
from mmap import mmap
from typing import Final

from modelcanary_gate.vocabulary import Outcome
from modelcanary_sidecar.errors import FrameError

#: Of a request and the baseline's answer, in one because packing twice costs twice: minted, with a candidate's
#: answer; lengths of id, run, method, target, headers, body; time; then as _ANSWER
_REQUEST = struct.Struct("<??HHIIIIdHBdII")
#: status, failure, latency, lengths of headers and body
_ANSWER = struct.Struct("<HBdII")

#: Larger bodies are written as they are, behind their head; smaller ones with it, because copying them costs less.
COPIED: Final = 16 << 10

#: The ways in which there is no answer, in the order of their codes; 0 is an answer, whatever its status.
_FAILURES: Final = (None, Outcome.TIMEOUT, Outcome.REFUSED, Outcome.TOO_LARGE, Outcome.UNDECODABLE)


def header(headers: bytes, name: bytes) -> bytes | None:
    """The first value of a header in lines as `LiveAnswer.headers` has them; `name` in lower case."""
    for line in headers.split(b"\r\n"):
        key, colon, value = line.partition(b":")
        if colon and key.lower() == name:
            return value.strip()
    return None


@dataclass(slots=True)  # not frozen: made for each pair, and a frozen one costs three times as much
class LiveAnswer:
    """What one model said on the live path."""

    failure: Outcome | None  # TIMEOUT, REFUSED, TOO_LARGE, UNDECODABLE (not HTTP), else None
    status: int  # 0 where there was no answer
    latency: float  # seconds from the request's last byte sent to the answer's last received
    headers: bytes  # lines `name: value\r\n`, without hop-by-hop and framing headers
    body: bytes  # transfer coding undone, content coding not


@dataclass(slots=True)  # not frozen, like LiveAnswer
class Captured:
    """One request of a user with the baseline's answer: what the scorer makes pairs of."""

    id: str  # the client's header, else the one minted and returned
    minted: bool  # the client sent no id in a header: an id in the body may be what labels come with
    time: float  # when the request came, seconds since the epoch
    run: str  # that the live process followed at that time
    method: bytes
    target: bytes  # path and query
    #: Of the mirrored copy, ready to be sent: lines `name: value\r\n`, without hop-by-hop and framing headers
    #: and, unless they are to be forwarded, credentials; with Host, id, `Accept-Encoding: identity` and
    #: `X-ModelCanary-Shadow: 1`. The sender adds Content-Length.
    headers: bytes
    body: bytes
    baseline: LiveAnswer
    #: Only where a canary weight had the candidate asked on the live path; else the scorer asks it.
    candidate: LiveAnswer | None = None


def copied(captured: Captured, prefix: bytes, headers: bytes, body: bytes) -> tuple[bytes, bytes]:
    """The copy of a request as a model is sent it, head and body; `prefix` is of that model's paths.

    The body is not copied: while the candidate is asked it is in memory once, for the copy and for the pair.
    """
    head = b"%b %b%b HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n" % (
        captured.method,
        prefix,
        captured.target,
        headers,
        len(body),
    )
    return head, body


def unpack(message: bytes | mmap, at: int = 0, end: int | None = None) -> list[Captured]:
    """The captured requests in a message, or a part of it, one behind the other.

    Raises FrameError when lengths do not add up.
    """
    found: list[Captured] = []
    end = len(message) if end is None else end
    try:
        while at < end or not found:
            captured, at = _unpack_one(message, at, end)
            found.append(captured)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise FrameError(f"a captured request cannot be read: {error}") from error
    return found


def _unpack_one(message: bytes | mmap, at: int, whole: int) -> tuple[Captured, int]:
    """The request that begins there, and where the next one does."""
    (
        minted,
        has_candidate,
        identified,
        ran,
        called,
        aimed,
        headed,
        bodied,
        time,
        status,
        failure,
        latency,
        answer_headed,
        answer_bodied,
    ) = _REQUEST.unpack_from(message, at)
    identifier = at + _REQUEST.size
    run = identifier + identified
    method = run + ran
    target = method + called
    headers = target + aimed
    body = headers + headed
    answer_headers = body + bodied
    answer_body = answer_headers + answer_headed
    end = answer_body + answer_bodied
    _check(end, whole)
    baseline = LiveAnswer(
        _FAILURES[failure], status, latency, message[answer_headers:answer_body], message[answer_body:end]
    )
    candidate = None
    if has_candidate:
        candidate, end = _unpack_answer(message, end, whole)
    captured = Captured(
        message[identifier:run].decode(),
        minted,
        time,
        message[run:method].decode(),
        message[method:target],
        message[target:headers],
        message[headers:body],
        message[body:answer_headers],
        baseline,
        candidate,
    )
    return captured, end


def _unpack_answer(message: bytes | mmap, at: int, whole: int) -> tuple[LiveAnswer, int]:
    status, failure, latency, headed, bodied = _ANSWER.unpack_from(message, at)
    headers = at + _ANSWER.size
    body = headers + headed
    end = body + bodied
    _check(end, whole)
    return LiveAnswer(_FAILURES[failure], status, latency, message[headers:body], message[body:end]), end


def _check(end: int, whole: int) -> None:
    """A slice beyond the end would be shorter, and nobody would notice."""
    if end > whole:
        raise IndexError(f"{end - whole} bytes are missing")
