"""Joins labels to pairs: the first label of a pair wins, whatever comes again or in another order.

Called by `core` within a transaction of the store. It must not know HTTP.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from modelcanary_gate.protocol import FeedbackCounts
from modelcanary_gate.sampling import position
from modelcanary_ledger.idindex import id_hash, id_salt
from modelcanary_ledger.model import Standing
from modelcanary_ledger.references import Relay
from modelcanary_ledger.run import Counts, Run, Scorable, SenderCounts, answers
from modelcanary_ledger.store import (
    AGREED,
    DISPUTED,
    SLACK,
    TAKEN_BACK,
    HeldLabel,
    JoinRow,
    LabelRow,
    Store,
    Wanted,
    run_of,
)

#: Ids that begin with a time are believed when it is within this many seconds before now.
_ID_WINDOW = 60 * 86400.0


@dataclass(frozen=True, slots=True)
class Posted:
    """A label as a sender posted it, its value resolved: a class index, or little-endian float64 per class."""

    id: str
    index: int
    value: int | bytes
    ts: float | None = None
    reference: str | None = None  # of a language model: the text, which is handed on and never kept


@dataclass(slots=True)
class _Tally:
    sender: str
    joined: int = 0
    duplicate: int = 0
    conflict: int = 0
    unmatched: int = 0
    unsampled: int = 0
    ambiguous: int = 0
    expired: int = 0
    unscored: int = 0

    def again(self, before: int | bytes, value: int | bytes) -> None:
        if before == value:
            self.duplicate += 1
        else:
            self.conflict += 1


@dataclass(slots=True)
class _Joined:
    """What a transaction joined in one run, until it is added to the evidence."""

    rows: list[JoinRow] = field(default_factory=list)
    values: list[int | bytes] = field(default_factory=list)
    #: of all labels that came now: their pair, the label, and seconds between request and label
    came: list[tuple[JoinRow, int | bytes, float]] = field(default_factory=list)


class Joiner:
    """Joins within one transaction; `finish` adds what was joined to the evidence."""

    def __init__(self, store: Store, relay: Relay, runs: dict[int, Run], now: float) -> None:
        self._store = store
        self._held = store.held
        self._relay = relay
        self._runs = runs
        self._now = now
        self._joined: defaultdict[int, _Joined] = defaultdict(_Joined)

    def post(self, standing: Standing, labels: Sequence[Posted], sender: str) -> FeedbackCounts:
        """What became of each label of one request."""
        tally, now = _Tally(sender), self._now
        below = standing.sampled_below(now)
        oldest = now - (standing.spec.labels.max_delay if standing.spec else 0.0)
        sought: list[tuple[Posted, int]] = []
        for label in labels:
            if below < 1.0 and position(label.id) >= below:
                tally.unsampled += 1
            elif label.ts is not None and label.ts < oldest:
                tally.expired += 1
            else:
                sought.append((label, id_hash(label.id, id_salt(standing.no, label.index))))
        self._held.seek(standing.no, [hashed for _, hashed in sought])
        waiting: list[tuple[Posted, Wanted]] = []
        for label, hashed in sought:
            held = self._held.get(hashed)
            if held is not None:
                self._again(hashed, held, label, tally)
                self._hand_on(standing, label)
            else:
                around = label.ts if label.ts is not None else time_in(label.id, now)
                waiting.append((label, Wanted(hashed, label.id, label.index, around)))
        found = self._store.find([wanted for _, wanted in waiting])
        matched: list[tuple[JoinRow, int | bytes]] = []
        for (label, wanted), rows in zip(waiting, found, strict=True):
            near = [row for row in rows if label.ts is not None and abs(row.time - label.ts) <= SLACK]
            if len(rows) == 1 or len(near) == 1:
                matched.append(((near or rows)[0], label.value))
            elif rows:
                tally.ambiguous += 1
            else:
                self._hold(standing, label, wanted.hash, tally)
        self._settle(standing, matched, tally)
        return self._counted(standing, tally)

    def found(self, run: Run, rows: Sequence[tuple[JoinRow, HeldLabel]]) -> None:
        """Pairs that were recorded after their label had come."""
        counts = run.progress.counts
        labels: list[LabelRow] = []
        for row, label in rows:
            late = label.at > row.time + run.horizon
            sender = run.sender(label.sender)
            labels.append((row, label.at, label.value, late, sender, label.against))
            _contradicted(run, sender, AGREED, label.against)
            self._delayed(run, row, label.value, label.at)
            if late:
                counts.expired += 1
            elif row.baseline is None or row.candidate is None or not run.fits(label.value):
                counts.unscored += 1
            else:
                self._count(run, row, label.value)
        self._store.add_labels(labels)

    def finish(self) -> None:
        for number, joined in self._joined.items():
            run = self._runs[number]
            _add_delays(run, joined.came)
            if joined.rows:
                rows = joined.rows
                pairs = Scorable(
                    np.array([row.time for row in rows]),
                    answers([row.baseline for row in rows], run.classes),
                    answers([row.candidate for row in rows], run.classes),
                    joined.values,
                    np.ones(len(rows)),
                )
                run.add_labelled(pairs, np.full(len(rows), self._now))
        self._joined.clear()

    def _settle(self, standing: Standing, matched: Sequence[tuple[JoinRow, int | bytes]], tally: _Tally) -> None:
        known = self._store.labels_of([row.pid for row, _ in matched]) if matched else {}
        labels: list[LabelRow] = []
        contradicted: dict[int, int] = {}
        for row, posted in matched:
            run = self._runs[run_of(row.pid)]
            value = posted if run.no == standing.run else _translated(standing, run, posted)
            sender = run.sender(tally.sender)
            before = known.get(row.pid)
            if before is not None:
                first, whose, against = before
                tally.again(first, value)
                said = against if first == value else max(against, DISPUTED if whose != sender else TAKEN_BACK)
                if said != against:
                    _contradicted(run, whose, against, said)
                    known[row.pid] = first, whose, said
                    contradicted[row.pid] = said
                continue
            known[row.pid] = value, sender, AGREED
            late = row.pid <= run.progress.matured or self._now > row.time + run.horizon
            labels.append((row, self._now, value, late, sender, AGREED))
            self._delayed(run, row, value, self._now)
            if late:
                tally.expired += 1
            elif row.baseline is None or row.candidate is None or not run.fits(value):
                tally.unscored += 1
            else:
                tally.joined += 1
                self._count(run, row, value)
        self._store.add_labels(labels)
        self._store.contradict(contradicted)

    def _delayed(self, run: Run, row: JoinRow, value: int | bytes, at: float) -> None:
        if run.fits(value):
            self._joined[run.no].came.append((row, value, max(0.0, at - row.time)))

    def _count(self, run: Run, row: JoinRow, value: int | bytes) -> None:
        run.progress.counts.labelled += 1
        if run.at_once and not run.agreement:
            joined = self._joined[run.no]
            joined.rows.append(row)
            joined.values.append(value)

    def _hold(self, standing: Standing, label: Posted, hashed: int, tally: _Tally) -> None:
        held = self._held.get(hashed)  # an earlier label of this very request
        if held is not None:
            self._again(hashed, held, label, tally)
            return
        tally.unmatched += 1
        self._hand_on(standing, label)
        gone = self._held.add(
            hashed, HeldLabel(standing.no, label.id, label.index, self._now, label.value, tally.sender)
        )
        if gone is not None:
            self.give_up([gone])

    def _hand_on(self, standing: Standing, label: Posted) -> None:
        """Of a language model, the pair is made of the reference: by the sidecar that has the prompt."""
        if label.reference is not None:
            self._relay.offer(standing.no, label.id, label.reference)

    def _again(self, hashed: int, held: HeldLabel, label: Posted, tally: _Tally) -> None:
        """A label for what another one, which still waits for its pair, has spoken of; counted when the pair comes."""
        tally.again(held.value, label.value)
        said = DISPUTED if held.sender != tally.sender else TAKEN_BACK
        if held.value != label.value and said > held.against:
            self._held.contradict(hashed, said)

    def give_up(self, labels: Sequence[HeldLabel]) -> None:
        """Labels whose pair never came are counted with the newest run of their model."""
        for label in labels:
            runs = [run for run in self._runs.values() if run.model == label.model]
            if runs:
                runs[-1].progress.counts.unmatched += 1
                runs[-1].changed = True

    def _counted(self, standing: Standing, tally: _Tally) -> FeedbackCounts:
        run = self._runs.get(standing.run)
        if run is not None:
            counts = run.progress.counts
            _add(counts, tally, ("duplicate", "unsampled", "ambiguous", "expired", "unscored"))
            place = run.sender(tally.sender)
            if place is not None:
                _add(run.progress.senders[place], tally, tuple(FeedbackCounts.__dataclass_fields__))
            run.changed = True
        return FeedbackCounts(*(getattr(tally, name) for name in FeedbackCounts.__dataclass_fields__))


def _add_delays(run: Run, came: Sequence[tuple[JoinRow, int | bytes, float]]) -> None:
    if run.at_once or not came:
        return
    predicted = np.full(len(came), -1, dtype=np.int64)
    scored = [place for place, (row, _, _) in enumerate(came) if row.baseline is not None and row.candidate is not None]
    if scored:
        predicted[scored] = answers([came[place][0].baseline for place in scored], run.classes).argmax(axis=1)
    run.delays.add(
        np.array([row.time for row, _, _ in came]),
        np.array([delay for _, _, delay in came]),
        run.label_classes([value for _, value, _ in came]),
        predicted,
    )
    run.changed = True


def _contradicted(run: Run, sender: int | None, before: int, now: int) -> None:
    """Counts a pair once, however often its label's contradiction is delivered; and so the sender's dispute."""
    if before == now:
        return
    if before == AGREED:
        run.progress.counts.conflict += 1
    if now == DISPUTED and sender is not None:
        run.progress.senders[sender].disputed += 1
    run.changed = True


def _add(counts: Counts | SenderCounts, tally: _Tally, names: Sequence[str]) -> None:
    for name in names:
        setattr(counts, name, getattr(counts, name) + getattr(tally, name))


def time_in(identifier: str, now: float) -> float | None:
    """The time at the head of an id: UUIDv7, or 32 hexadecimal digits of which 12 are milliseconds."""
    match len(identifier):
        case 36 if identifier[14] == "7":
            digits = identifier[:8] + identifier[9:13]
        case 32:
            digits = identifier[:12]
        case _:
            return None
    try:
        seconds = int(digits, 16) / 1000.0
    except ValueError:
        return None
    return seconds if now - _ID_WINDOW < seconds < now + SLACK else None


def _translated(standing: Standing, run: Run, value: int | bytes) -> int | bytes:
    """A class of the current run, as the index that an earlier run gave to it; −1 where it had none."""
    if isinstance(value, bytes) or standing.spec is None:
        return value
    if standing.spec.model.generates:
        return value if run.spec.model.generates else -1
    return run.class_index.get(standing.spec.model.classes[value], -1)
