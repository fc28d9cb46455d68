"""What is fuzzed: bytes in, nothing out, AssertionError where the sidecar does what it must not.

`__main__` has atheris call these, and the tests replay the corpus with them. A target's first bytes say how the rest
is used, so that one file is one input, whoever made it.
"""

import gzip
import math
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from itertools import product
from typing import Final

from tests.sidecar.framing.reading import BadAnswerError, end_to_end, read_answer, read_by_h11
from tests.sidecar.framing.seam import Answered, Outcome, converse, pieces_of, relay

from modelcanary_gate.protocol import ModelReading
from modelcanary_gate.vocabulary import Role
from modelcanary_sidecar import asked
from modelcanary_sidecar.decoding import Reader, ReadingError, Unread, Unreadable
from modelcanary_sidecar.decoding.binary import LENGTH_HEADER

#: In what is read at once: with more, where the cuts are decides when a limit is reached (as in `request_reader`).
_UPGRADES: Final = 8


def _cut(data: bytes) -> tuple[bytes, list[bytes]]:
    """The message, and the same in up to four pieces."""
    count = data[0] % 4 if data else 0
    places, message = data[1 : 1 + count], data[1 + count :]
    return message, pieces_of(message, [place * len(message) // 255 for place in places])


def requests(data: bytes) -> None:
    """A client's bytes: however they are cut, the same requests, which h11 reads as the sidecar does."""
    message, pieces = _cut(data)
    if not message or message.lower().count(b"upgrade") > _UPGRADES:
        return
    whole = converse([message])
    assert converse(pieces) == whole, f"in pieces: {converse(pieces)}; whole: {whole}"
    _compare_requests(message, whole)


def _compare_requests(message: bytes, outcome: Outcome) -> None:
    for ours, theirs in zip(outcome.asked, read_by_h11(message)[0], strict=False):
        assert (ours.method, ours.body) == (theirs.method, theirs.body)
        if theirs.target.startswith(b"/") or theirs.target == b"*":
            assert ours.target == theirs.target
        if any(name == b"host" for name, _ in theirs.headers):  # else it is the sidecar's
            assert end_to_end(ours.headers) == end_to_end(theirs.headers)


def answers(data: bytes) -> None:
    """A model's bytes: however they are cut, the client reads the same answer, and the one that h11 reads."""
    if len(data) < 2:
        return
    method = (b"GET", b"HEAD", b"POST", b"GET")[data[0] & 3]
    version = b"1.0" if data[0] & 4 else b"1.1"
    ends = bool(data[0] & 8)
    message, pieces = _cut(data[1:])
    if not message:
        return
    whole = relay(method, version, [message], ends)
    cut = relay(method, version, pieces, ends)
    assert _same(whole, cut), f"in pieces: {cut}; whole: {whole}"
    _compare_answers(method, message, ends, whole)


def _same(whole: Answered | None, cut: Answered | None) -> bool:
    if whole is None or cut is None:
        return whole is cut
    if whole.whole and cut.whole:
        return (whole.status, whole.headers, whole.body) == (cut.status, cut.headers, cut.body)
    # What had been passed on when the fault came: nothing at all, or some of it.
    return all(not one.whole or one.status == 502 for one in (whole, cut))


def _compare_answers(method: bytes, message: bytes, ends: bool, got: Answered | None) -> None:
    if got is None or not got.whole or got.status == 502:
        return
    with suppress(BadAnswerError):
        read = read_answer(method, message, ended=ends)
        if read is not None and read[0].whole:
            assert (got.status, got.body) == (read[0].status, read[0].body)
            assert end_to_end(got.headers) == end_to_end(read[0].headers)


_PROTOCOLS = ("auto", "kserve-v1", "oip-v2", "seldon", "mlflow", "custom")
_VALUES = ("probabilities", "logits", "logProbabilities", "binaryScore")
_CAP: Final = 1 << 16


def _readers() -> list[Reader]:
    made = []
    for protocol, values, task, output in product(_PROTOCOLS, _VALUES, ("binary", "multilabel"), (None, "data")):
        reading = ModelReading(
            classes=["a", "b"], protocol=protocol, values=values, task=task, output=output, pointer="jmespath:data[0]"
        )
        with suppress(ReadingError):
            made.append(Reader(reading, Role.CANDIDATE, _CAP))
    return made


_READERS = _readers()
_CODINGS: Final[tuple[tuple[bytes, Callable[[bytes], bytes]], ...]] = (
    (b"", bytes),
    (b"gzip", bytes),
    (b"gzip", lambda body: gzip.compress(body, 1, mtime=0)),
    (b"deflate", lambda body: zlib.compress(body, 1)),
    (b"deflate", bytes),
    (b"br", bytes),
)


def _coded(data: bytes) -> tuple[bytes, bytes]:
    """Headers and a body: the first byte says which coding, the second how long a binary answer's head is."""
    name, encode = _CODINGS[data[0] % len(_CODINGS)]
    headers = b"content-encoding: %b\r\n" % name if name else b""
    if data[1] % 2:
        headers += b"%b: %d\r\n" % (LENGTH_HEADER, data[1] * len(data) // 255)
    return headers, encode(data[2:])


def decoded(data: bytes) -> None:
    """A model's answer in every format: rows of log-probabilities, or a typed reason."""
    if len(data) < 3:
        return
    reader = _READERS[data[0] % len(_READERS)]
    headers, body = _coded(data[1:])
    found = reader.read(200, headers, body)
    if isinstance(found, Unread):
        return
    assert found, "an answer without rows"
    for row in found:
        if isinstance(row, Unread):
            continue
        numbers = struct.unpack("<2f", row)
        assert not any(math.isnan(number) or number == math.inf for number in numbers), numbers


def understood(data: bytes) -> None:
    """A user's request body in every format: an id, a number of instances, or none."""
    if len(data) < 2:
        return
    headers, body = _coded(data)
    with suppress(Unreadable):
        asked.asked(headers, body, _CAP)
    id = asked.id_in(headers, body, _CAP)
    assert id is None or (isinstance(id, str) and 0 < len(id) <= 256)
    count = asked.instances(headers, body, _CAP)
    assert count is None or (type(count) is int and 1 <= count <= len(body))


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "requests": requests,
    "answers": answers,
    "decoded": decoded,
    "understood": understood,
}
