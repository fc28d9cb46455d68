"""Reads the answers of one role: status, coding, JSON, shape, alignment, log-probabilities.

The scorer makes one per role whenever the instructions change, and calls `read` once per answer.
"""

from modelcanary_gate.protocol import ModelReading
from modelcanary_gate.spec import Task, Values
from modelcanary_gate.vocabulary import Outcome, Role
from modelcanary_sidecar.decoding.align import Alignment
from modelcanary_sidecar.decoding.body import inflate, parse_json
from modelcanary_sidecar.decoding.presets import preset_for, widths_of
from modelcanary_sidecar.decoding.rows import Row, Rows
from modelcanary_sidecar.decoding.unreadable import Cause, ReadingError, Unread, Unreadable


class Reader:
    """How one role's answers become rows of log-probabilities. Raises ReadingError if nothing could."""

    def __init__(self, reading: ModelReading, role: Role, max_body_bytes: int) -> None:
        _check(reading)
        self._cap = max_body_bytes
        self._preset = preset_for(reading)
        self._rows = Rows(reading, Alignment(reading, role), widths_of(reading))

    def read(self, status: int, content_encoding: bytes, body: bytes) -> list[Row] | Unread:
        """One entry per instance: little-endian float32 log-probabilities, or why there are none.

        `Unread` in place of the list is an answer in which not even the instances can be told apart.
        """
        if status >= 400:
            return Unread(Outcome.ERROR_STATUS, Cause.STATUS, f"status {status}")
        try:
            if content_encoding or len(body) > self._cap:
                body = inflate(body, content_encoding, self._cap)
            return self._rows.read(self._preset(parse_json(body)))
        except Unreadable as error:
            return error.unread


def _check(reading: ModelReading) -> None:
    try:
        Values(reading.values)
        Task(reading.task)
    except ValueError as error:
        raise ReadingError(f"model.values or model.task: {error}; one of the documented words") from error
