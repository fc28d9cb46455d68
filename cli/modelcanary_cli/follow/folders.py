"""A folder of labels, looked at time and again: what is new in it, and what has grown, goes to the ledger.

Run by `worker` in a thread of its own. Lines (`.jsonl`, `.ndjson`) are read as they are written, all else when it is
whole, by the reader of `labels import`. How far was read is kept in `marks`, after the ledger has it.
"""

import hashlib
import threading
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path, PurePosixPath

from modelcanary_cli.errors import InputError
from modelcanary_cli.follow.delivery import Delivery, Post, Stopped, Tally
from modelcanary_cli.follow.marks import Mark, Marks
from modelcanary_cli.follow.records import Record, Unusable, masked, read_row
from modelcanary_cli.follow.roots import Found, Root
from modelcanary_cli.label_files import read_label_file
from modelcanary_gate.protocol import Followed
from modelcanary_ledger.labels import MAX_LABELS
from modelcanary_operator.label_places import LabelPlace

_LINES = (".jsonl", ".ndjson")
_CHUNK = 4 << 20
_LONGEST_LINE = 8 << 20
_TAIL = 256
#: Young files of one source; more are not kept account of.
_MOST_FILES = 10_000
#: Seconds that clocks may be wrong by.
_SLACK = 3600.0


class FolderFollower:
    """`look`: seconds between two looks."""

    def __init__(
        self,
        followed: Followed,
        place: LabelPlace,
        post: Post,
        tally: Tally,
        stop: threading.Event,
        state: Path | None,
        look: float,
    ) -> None:
        """Raises InputError where the endpoint's settings cannot be used."""
        self._root = Root(place, followed.source.place)
        self._max_delay = followed.maxDelay
        self._tally = tally
        self._stop = stop
        self._look_every = look
        self._delivery = Delivery(post, tally, self._wait, lambda record, problem: tally.poison(record.place, problem))
        self._marks = Marks(state, tally.name)

    def run(self) -> None:
        """Until it is stopped. Raises InputError where the folder cannot be read."""
        self._marks.load()
        try:
            while True:
                self._look()
                self._wait(self._look_every)
        except Stopped:
            pass

    def _look(self) -> None:
        """Whoever labels a request does it within `maxDelay`; files that are older than that hold nothing of use."""
        found = self._root.young(time.time() - self._max_delay - _SLACK)
        problem = ""
        if len(found) > _MOST_FILES:
            problem = f"{self._root.name} has {len(found)} files that are young enough, and {_MOST_FILES} are read: "
            problem += "write fewer, or larger ones"
            found = found[-_MOST_FILES:]
        marks = self._marks.files
        self._marks.files = {each.source.path: marks[each.source.path] for each in found if each.source.path in marks}
        waiting = [each for each in found if not self._is_done(each)]
        for number, each in enumerate(waiting):
            self._tally.lag = len(waiting) - number
            try:
                self._read(each)
            except InputError as error:  # the store's: the others may be readable
                problem = str(error)
            self._marks.save()
        self._tally.lag = sum(not self._is_done(each) for each in found)
        if problem:
            self._tally.fail(problem)
        else:
            self._tally.work()

    def _is_done(self, found: Found) -> bool:
        mark = self._marks.files.get(found.source.path)
        return mark is not None and mark.done and mark.is_of(found.size, found.changed)

    def _read(self, found: Found) -> None:
        path = found.source.path
        mark = self._marks.files.get(path)
        # one that has not changed since the last look is whole, and an object always is
        settled = found.whole or (mark is not None and mark.is_of(found.size, found.changed))
        if PurePosixPath(path).suffix.lower() in _LINES:
            self._read_lines(found, mark, settled)
            return
        if settled:
            self._read_whole(found)
        self._marks.files[path] = Mark(found.size, found.changed, done=settled)

    def _read_whole(self, found: Found) -> None:
        name = found.source.name
        with found.source.local() as path:
            try:
                file = read_label_file(path, name, "auto")
            except InputError as error:
                self._tally.poison(name, masked(error.problem))
                return
            records = (Record(f"{name}, row {row}", (line,), labels) for line, row, labels in file.lines)
            while part := list(
                islice(records, MAX_LABELS)
            ):  # all of a file's rows as objects would be many times the file
                self._delivery.deliver(part)

    def _read_lines(self, found: Found, mark: Mark | None, settled: bool) -> None:
        """From where it was read to. A last line without an end is read when the file rests and the line is whole.

        Whoever writes may rest in the middle of a line: half of one is left where it is.
        """
        start = self._start(found, mark)
        rests = False
        while start < found.size:
            content = self._root.read(found, start, min(_CHUNK, found.size - start))
            while b"\n" not in content and start + len(content) < found.size and len(content) < _LONGEST_LINE:
                content += self._root.read(found, start + len(content), _CHUNK)
            end = content.rfind(b"\n") + 1
            if not end and len(content) >= _LONGEST_LINE:
                self._tally.poison(f"{found.source.name} at byte {start}", "a line is too long; the rest is left out")
                start = found.size
                break
            if not end:
                rests = settled
                if not settled or not (found.whole or _is_record(content)):
                    break
                end = len(content)
            self._delivery.deliver(list(self._records(found, start, content[:end])))
            start += end
            self._keep(found, start, content[:end])
        self._keep(found, start, None, rests=rests)

    def _records(self, found: Found, start: int, content: bytes) -> Iterator[Record]:
        for line in content.split(b"\n"):
            place = f"{found.source.name} at byte {start}"
            start += len(line) + 1
            if not line.strip():
                continue
            try:
                yield read_row(place, line)
            except Unusable as error:
                self._tally.poison(place, str(error))

    def _start(self, found: Found, mark: Mark | None) -> int:
        """0 where another file has come in the place of the one that was read."""
        if mark is None or not mark.offset or mark.offset > found.size:
            return 0
        before = self._root.read(found, max(0, mark.offset - _TAIL), min(_TAIL, mark.offset))
        return mark.offset if _digest(before) == mark.tail else 0

    def _keep(self, found: Found, offset: int, read: bytes | None, *, rests: bool = False) -> None:
        """`read`: what stands before the offset, where it was read now; `rests`: all is read that can be by now."""
        before = self._marks.files.get(found.source.path)
        if read is not None and len(read) >= min(_TAIL, offset):
            tail = _digest(read[-_TAIL:])
        elif read is None and before is not None and before.offset == offset:
            tail = before.tail
        else:
            tail = _digest(self._root.read(found, max(0, offset - _TAIL), min(_TAIL, offset)))
        done = rests or offset >= found.size
        self._marks.files[found.source.path] = Mark(found.size, found.changed, offset, tail, done)

    def _wait(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise Stopped


def _is_record(line: bytes) -> bool:
    try:
        read_row("", line)
    except Unusable:
        return not line.strip()
    return True


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
