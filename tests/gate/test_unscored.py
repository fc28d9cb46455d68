import pytest

from modelcanary_gate.unscored import Unscored, most_unscored
from modelcanary_gate.vocabulary import Outcome, Role


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if outcome is not Outcome.OK])
def test_every_outcome_has_its_name_and_a_remedy(role: Role, outcome: Outcome) -> None:
    found = Unscored(role, outcome, 3, 4)
    assert found.reason.lower() == outcome.lower()
    assert found.message.startswith(f"3 of 4 answers of the {role} could not be scored: {outcome}; ")


def test_half_is_enough() -> None:
    assert most_unscored({Role.CANDIDATE: {Outcome.OK: 2, Outcome.TIMEOUT: 1, Outcome.REFUSED: 1}}) is None
    assert most_unscored({}) is None
    counts = {Outcome.OK: 2, Outcome.TIMEOUT: 1, Outcome.LABELS_ONLY: 2}
    assert most_unscored({Role.BASELINE: {Outcome.OK: 5}, Role.CANDIDATE: counts}) == Unscored(
        Role.CANDIDATE, Outcome.LABELS_ONLY, 2, 5
    )


def test_labels_of_the_baseline_are_not_mended_by_a_patch_alone() -> None:
    assert "scoringCopy" in Unscored(Role.BASELINE, Outcome.LABELS_ONLY, 3, 4).message
    assert "scoringCopy" not in Unscored(Role.CANDIDATE, Outcome.LABELS_ONLY, 3, 4).message
