from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelcanary_gate.plan.phases import Phase
from modelcanary_gate.plan.status import Decided, Ended, Finding, Rejected, Run, Signal, Status
from modelcanary_operator import status_json

WORDS = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=20)
MOMENTS = st.integers(0, 4_000_000_000_000_000).map(lambda micros: micros / 1e6)
RUNS = st.builds(
    Run,
    id=WORDS,
    baseline=WORDS,
    candidate=WORDS,
    digest=WORDS,
    created_at=MOMENTS,
    attempt=st.integers(0, 9),
    shadowing_since=st.none() | MOMENTS,
    step=st.integers(0, 9),
    step_since=st.none() | MOMENTS,
    told=st.lists(WORDS).map(tuple),
    observing_since=st.none() | MOMENTS,
)
FINDINGS = st.builds(
    Finding, st.integers(0, 9), WORDS, WORDS, WORDS, WORDS, st.lists(WORDS).map(tuple), st.lists(WORDS).map(tuple)
)
SIGNALS = st.builds(
    Signal,
    *(WORDS.filter(bool), WORDS.filter(bool), MOMENTS, WORDS, WORDS),
    *(st.lists(WORDS, min_size=1).map(tuple), WORDS, WORDS, WORDS, FINDINGS),
)
STATUSES = st.builds(
    Status,
    phase=st.sampled_from(Phase),
    reason=WORDS,
    message=WORDS,
    verdict=WORDS,
    baseline=WORDS.filter(bool),
    replicas=st.integers(0, 99),
    run=st.none() | RUNS,
    decided=st.none() | st.builds(Decided, WORDS, WORDS, WORDS, FINDINGS),
    rejected=st.none() | st.builds(Rejected, WORDS, WORDS, MOMENTS, st.integers(0, 9), WORDS, WORDS, st.booleans()),
    last=st.none() | st.builds(Ended, WORDS, WORDS, WORDS, MOMENTS),
    signals=st.lists(SIGNALS, max_size=3).map(tuple),
    handover_since=st.none() | MOMENTS,
)


@given(STATUSES)
def test_nothing_that_the_plan_needs_is_lost(status: Status) -> None:
    written = status_json.write(status)
    found = status_json.read(written)
    assert status_json.write(found) == written
    assert _coarse(found) == _coarse(status)


def _coarse(status: Status) -> Status:
    """Times to the millisecond: a float of seconds has no more than microseconds, and not all of those."""

    def cut(seconds: float | None) -> float | None:
        return None if seconds is None else round(seconds, 3)

    run, rejected, last = status.run, status.rejected, status.last
    return replace(
        status,
        handover_since=cut(status.handover_since),
        run=run
        and replace(
            run,
            created_at=round(run.created_at, 3),
            shadowing_since=cut(run.shadowing_since),
            step_since=cut(run.step_since),
            observing_since=cut(run.observing_since),
        ),
        rejected=rejected and replace(rejected, at=round(rejected.at, 3)),
        signals=tuple(replace(signal, at=round(signal.at, 3)) for signal in status.signals),
        last=last and replace(last, at=round(last.at, 3)),
    )


@pytest.mark.parametrize(
    "written",
    [
        {},
        {"phase": "Unheard"},
        {"phase": "Shadowing", "run": {"id": "x"}},
        {"phase": "Cooldown", "rejected": {"at": 1}},
    ],
)
def test_what_another_version_wrote_reads_as_nothing_known(written: dict[str, object]) -> None:
    assert status_json.read(written) == Status()


def test_stalled_is_read_from_its_condition() -> None:
    written = status_json.write(Status(phase=Phase.STALLED)) | {"conditions": [{"type": "Stalled", "status": "True"}]}
    assert status_json.read(written).stalled
