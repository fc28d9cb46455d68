"""Hands records of one source to the ledger, in their order, until each is durable there or known to be no label.

Called by `topics` and `folders`, which say how to wait: a consumer has to go on showing that it lives. Nothing is ever
skipped because the ledger would not take it now.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from modelcanary_cli.errors import CliError
from modelcanary_cli.feedback import FIRST_PAUSE, LONGEST_PAUSE, NotNow, Refused, Taken
from modelcanary_cli.follow.records import Record, masked
from modelcanary_ledger.labels import MAX_LABELS

log = logging.getLogger(__name__)

#: Below the 16 MiB that a ledger takes at once.
_MOST_BYTES = 12 << 20
#: Seconds between two log lines on records that are no labels; the rest are counted.
_QUIET = 1.0


class Stopped(Exception):
    """The source is not to be followed any more; what was not taken stays where it is."""


class Post(Protocol):
    def send(self, body: bytes) -> Taken | NotNow | Refused: ...


class Tally:
    """Of one source since it was first followed here: written by its thread, read by others."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.problem = "it was not looked at yet"
        self.lag: int | None = None
        self.labels = 0
        self.counts: dict[str, int] = {}
        self.poisoned = 0
        self._said = float("-inf")
        self._unsaid = 0

    def fail(self, problem: str) -> None:
        if problem != self.problem:
            log.warning("%s: %s", self.name, problem)
        self.problem = problem

    def work(self) -> None:
        if self.problem:
            log.info("%s: it is read", self.name)
        self.problem = ""

    def poison(self, place: str, problem: str) -> None:
        self.poisoned += 1
        now = time.monotonic()
        if now - self._said < _QUIET:
            self._unsaid += 1
            return
        more = f" (and {self._unsaid} others before)" if self._unsaid else ""
        log.warning("%s: %s is no label: %s%s", self.name, place, problem, more)
        self._said, self._unsaid = now, 0


class Delivery:
    """`wait`: passes some seconds, raises Stopped where there is no going on."""

    def __init__(
        self, post: Post, tally: Tally, wait: Callable[[float], None], aside: Callable[[Record, str], None]
    ) -> None:
        self._post = post
        self._tally = tally
        self._wait = wait
        self._aside = aside

    def deliver(self, records: Sequence[Record]) -> None:
        """All of them, in order. Those that the ledger says are no labels are handed to `aside`. Raises Stopped."""
        todo = [list(part) for part in _parts(records)]
        while todo:
            part = todo.pop(0)
            refused = self._send(part)
            if refused is None:
                continue
            at, problem = refused
            if len(part) == 1:
                self._aside(part[0], problem)
            else:  # none of them was taken; who is blamed is asked alone, so that no label is lost by another's fault
                todo[:0] = [rest for rest in (part[:at], part[at : at + 1], part[at + 1 :]) if rest]

    def _send(self, part: Sequence[Record]) -> tuple[int, str] | None:
        """None when the ledger has them; else which of them is no label, and why."""
        body = b"[" + b",".join(item for record in part for item in record.items) + b"]"
        pause = FIRST_PAUSE
        while True:
            try:
                said = self._post.send(body)
            except CliError as error:  # a token or a certificate, which may be replaced
                said = NotNow(str(error))
            if isinstance(said, Taken):
                self._tally.work()
                self._tally.labels += sum(record.labels for record in part)
                for name, count in said.counts.items():
                    self._tally.counts[name] = self._tally.counts.get(name, 0) + count
                return None
            if isinstance(said, Refused):
                at = _whose(said, part)
                if at is not None:
                    return at, masked(said.problem)
                said = NotNow(f"the ledger refuses labels: {said.status} {said.problem}; {said.remedy}")
            if not said.busy:
                self._tally.fail(said.problem)
            self._wait(pause if said.wait is None else said.wait)
            pause = min(2 * pause, LONGEST_PAUSE)


def _whose(refused: Refused, part: Sequence[Record]) -> int | None:
    """Whose fault it is; None where it is nobody's: the ledger has no run yet, or does not know who sends."""
    if len(part) == 1 and refused.status in (400, 413):
        return 0
    row = refused.row
    if refused.status not in (400, 422) or row is None:
        return None
    for at, record in enumerate(part):
        if row < record.labels:
            return at
        row -= record.labels
    return 0


def _parts(records: Sequence[Record]) -> Iterator[list[Record]]:
    """As many as fit into one request."""
    part: list[Record] = []
    labels = size = 0
    for record in records:
        if part and (labels + record.labels > MAX_LABELS or size + record.size > _MOST_BYTES):
            yield part
            part, labels, size = [], 0, 0
        part.append(record)
        labels += record.labels
        size += record.size
    if part:
        yield part
