"""Folds recorded pairs into evidence: what arrived into the traffic, what has matured into the losses.

Called by `transaction`, within one. Both cursors commit with what they counted, so after a
crash the folding goes on where the store says, over the same rows. It must not know HTTP.
"""

import numpy as np

from modelcanary_gate.evidence import OUTCOME_CODES, AnsweredPairs
from modelcanary_gate.scoring import score_agreement
from modelcanary_gate.vocabulary import Outcome
from modelcanary_ledger.join import Joiner
from modelcanary_ledger.run import Run, Scorable, answers
from modelcanary_ledger.store import JoinRow, Store

#: Rows per step: bounds memory, and for how long those who wait for a commit are kept waiting.
STEP = 4096
_OK = OUTCOME_CODES[Outcome.OK]


def fold_arrivals(run: Run, store: Store, joiner: Joiner) -> bool:
    """One step over newly recorded pairs; whether there was anything to do."""
    progress = run.progress
    if store.last_pid(run.no) <= progress.recorded:
        return False
    rows = store.arrived(run.no, progress.recorded, STEP)
    if not rows:
        return False
    progress.recorded = rows[-1][0]
    pids, hashes, times, bo, bl, co, cl, ids, indices, b, c, places = zip(*rows, strict=True)
    time = np.array(times)
    answered = AnsweredPairs(
        np.array(bo, dtype=np.int64),
        np.array(co, dtype=np.int64),
        np.array(bl, dtype=np.float64),
        np.array(cl, dtype=np.float64),
    )
    run.add_answered(time, answered)
    scored = np.flatnonzero((answered.baseline_outcome == _OK) & (answered.candidate_outcome == _OK))
    progress.counts.pairs += len(rows)
    progress.counts.scored += len(scored)
    if len(scored) and not run.at_once:
        own = answers([b[row] for row in scored.tolist()], run.classes)
        if run.agreement:
            other = answers([c[row] for row in scored.tolist()], run.classes)
            run.add_scored(time[scored], time[scored], score_agreement(run.spec, own, other))
        else:
            run.delays.add_pairs(time[scored], own.argmax(axis=1))
    held = store.held
    if held.any(run.model):
        held.seek(run.model, hashes)
        found = []
        for row, hashed in enumerate(hashes):
            label = held.get(hashed)
            if label is not None and label[:3] == (run.model, ids[row], indices[row]):
                pair = JoinRow(pids[row], ids[row], indices[row], times[row], b[row], c[row], places[row])
                found.append((pair, held.remove(hashed)))
        if found:
            joiner.found(run, found)
    return True


def fold_matured(run: Run, store: Store, now: float) -> bool:
    """One step over pairs whose time for a label is over; whether there was anything to do."""
    progress = run.progress
    if run.agreement or progress.matured >= progress.recorded or now < run.next_due:
        return False
    rows = store.matured(run.no, progress.matured, min(STEP, progress.recorded - progress.matured))
    due = np.array([row[1] for row in rows]) + run.horizon
    young = np.flatnonzero(due > now)
    if len(young):
        run.next_due = float(due[young[0]])
        rows = rows[: int(young[0])]
    if not rows:
        return False
    labels = store.labels_between(progress.matured, rows[-1][0])
    progress.matured = rows[-1][0]
    run.changed = True
    scored = [row for row in rows if row[2] == _OK and row[3] == _OK]
    if not scored:
        return True
    times = np.array([row[1] for row in scored])
    baseline = answers([row[4] for row in scored], run.classes)
    candidate = answers([row[5] for row in scored], run.classes)
    known, late = [], []
    missing = np.ones(len(scored))
    for i, row in enumerate(scored):
        label = labels.get(row[0])
        if label is None or not run.fits(label[1]):
            continue
        if label[2]:  # came late, and was counted so
            continue
        # Late by a maturity that was learned since; what counted with its label has counted.
        if label[0] > row[1] + run.horizon and not run.at_once:
            late.append(row[0])
            continue
        known.append(i)
    if late:
        store.mark_late(late)
        progress.counts.labelled -= len(late)
        progress.counts.expired += len(late)
    progress.counts.missing += len(scored) - len(known)
    coverage, weights = run.coverage_of([labels[scored[i][0]][1] for i in known])
    missing[known] = 1.0 - 1.0 / coverage  # what came stands for what its class still lacks
    run.add_coverage(baseline, candidate, missing)
    if known and not run.at_once:
        order = np.array(known)
        sorting = np.argsort(times[order], kind="stable")
        order = order[sorting]
        run.add_labelled(
            Scorable(
                times[order],
                baseline[order],
                candidate[order],
                [labels[scored[i][0]][1] for i in order.tolist()],
                weights[sorting],
            ),
            times[order],
        )
    return True
