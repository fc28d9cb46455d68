"""Reads the answers of one role: status, coding, JSON or binary tensors, shape, alignment, log-probabilities.

The scorer makes one per role whenever the instructions change, and calls `read` once per answer.
"""

from collections.abc import Sequence

from modelcanary_gate.protocol import ModelReading
from modelcanary_gate.spec import Task, Values
from modelcanary_gate.vocabulary import Outcome, Role
from modelcanary_sidecar.capture import header
from modelcanary_sidecar.decoding.align import Alignment
from modelcanary_sidecar.decoding.binary import LENGTH_HEADER, attach, split
from modelcanary_sidecar.decoding.body import inflate, parse_json
from modelcanary_sidecar.decoding.presets import preset_for, widths_of
from modelcanary_sidecar.decoding.rows import Numbers, Row, Rows
from modelcanary_sidecar.decoding.unreadable import Cause, ReadingError, Unread, Unreadable

#: An answer that was taken apart: rows, or the numbers of a large one, or why there is neither.
Begun = list[Row] | Numbers | Unread


class Reader:
    """How one role's answers become rows of log-probabilities. Raises ReadingError if nothing could."""

    def __init__(self, reading: ModelReading, role: Role, max_body_bytes: int) -> None:
        _check(reading)
        self._cap = max_body_bytes
        self._preset = preset_for(reading)
        self._rows = Rows(reading, Alignment(reading, role), widths_of(reading))
        self._plain: bytes | None = None  # the last headers of an answer that is neither compressed nor binary

    def read(self, status: int, headers: bytes, body: bytes) -> list[Row] | Unread:
        """One entry per instance: little-endian float32 log-probabilities, or why there are none.

        `headers` are lines as `LiveAnswer` has them. `Unread` in place of the list is an answer in which not even
        the instances can be told apart.
        """
        return self.finish([self.begin(status, headers, body)])[0]

    def begin(self, status: int, headers: bytes, body: bytes) -> Begun:
        """The first part of `read`. For many answers it is cheaper to begin each, and to finish all at once."""
        if status >= 400:
            return Unread(Outcome.ERROR_STATUS, Cause.STATUS, f"status {status}")
        try:
            return self._rows.read(self._preset(self._value(headers, body)))
        except Unreadable as error:
            return error.unread

    def finish(self, begun: Sequence[Begun]) -> list[list[Row] | Unread]:
        """What `read` returns, for each; they may be of the other role's reader, too."""
        large = [one for one in begun if isinstance(one, Numbers)]
        rows = iter(self._rows.finish(large) if large else ())
        return [next(rows) if isinstance(one, Numbers) else one for one in begun]

    def _value(self, headers: bytes, body: bytes) -> object:
        """The answer as JSON has it; binary tensors are bytes in it."""
        if headers == self._plain and len(body) <= self._cap:
            return parse_json(body)
        lower = headers.lower()  # few answers have either header, and looking for one line by line costs more
        coding = (header(headers, b"content-encoding") or b"") if b"content-encoding" in lower else b""
        if coding or len(body) > self._cap:
            body = inflate(body, coding, self._cap)
        if LENGTH_HEADER not in lower:
            if not coding:
                self._plain = headers
            return parse_json(body)
        length = header(headers, LENGTH_HEADER)
        if length is None:
            return parse_json(body)
        head, tensors = split(body, length)
        return attach(parse_json(head), tensors)


def _check(reading: ModelReading) -> None:
    try:
        Values(reading.values)
        Task(reading.task)
    except ValueError as error:
        raise ReadingError(f"model.values or model.task: {error}; one of the documented words") from error
