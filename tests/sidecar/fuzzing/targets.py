"""What is fuzzed of the scorer: bytes in, nothing out, AssertionError where it does what it must not.

`__main__` has atheris call these. A target's first bytes say how the rest is used, so that one file is one input,
whoever made it. What is fuzzed of the live process is in `sidecar/live/fuzz`.
"""

import gzip
import math
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from itertools import product
from typing import Final

from modelcanary_gate.protocol import ModelReading
from modelcanary_gate.vocabulary import Role
from modelcanary_sidecar import asked
from modelcanary_sidecar.decoding import Reader, ReadingError, Unread, Unreadable
from modelcanary_sidecar.decoding.binary import LENGTH_HEADER

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
    "decoded": decoded,
    "understood": understood,
}
