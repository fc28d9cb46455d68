"""What keeps answers from being scored, in words: the outcome by its name, and what to do about it.

The same words stand in the verdict's message (`explain`), the resource's condition (operator) and the warning of
`modelcanary run` (cli). Decides nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from modelcanary_gate.vocabulary import Outcome, Role

REMEDIES: Mapping[Outcome, str] = {
    Outcome.ERROR_STATUS: "the model answers with an error status: try one of the users' requests on it by hand",
    Outcome.TIMEOUT: "it is slower than spec.mirror.timeout",
    Outcome.REFUSED: "nothing listens there, or it closes connections: check the URL",
    Outcome.TOO_LARGE: "raise spec.mirror.maxBodyBytes",
    Outcome.UNDECODABLE: (
        "not the protocol's JSON (an HTML page?): check the URL, spec.model.protocol and spec.model.paths"
    ),
    Outcome.LABELS_ONLY: "it answers labels without probabilities: ask for them by spec.model.requestPatch",
    Outcome.TOP_K_ONLY: "it answers the top classes only: let it answer all of them",
    Outcome.CLASS_COUNT: "another number of probabilities than there are spec.model.classes",
    Outcome.NOT_PROBABILITIES: "its numbers are no probabilities: set spec.model.values, for example to logits",
    Outcome.NON_FINITE: "NaN or Infinity among its numbers",
    Outcome.NO_PROMPT_LOGPROBS: (
        "its server does not say how probable a given text is: "
        "it needs prompt_logprobs, or echo with logprobs, as vLLM has them"
    ),
}
#: Where the baseline is asked by users, a patch of the mirrored copy does not reach it.
_BASELINE_LABELS = "users ask it for labels: set spec.mirror.scoringCopy, and spec.model.requestPatch to ask for more"


@dataclass(frozen=True, slots=True)
class Unscored:
    """One model, most of whose answers cannot be scored, and the most frequent cause."""

    role: Role
    outcome: Outcome
    count: int  # with that outcome
    of: int  # answers

    @property
    def reason(self) -> str:
        """As a condition has it: LabelsOnly."""
        return self.outcome[0].upper() + self.outcome[1:]

    @property
    def message(self) -> str:
        what = f"{self.count} of {self.of} answers of the {self.role} could not be scored: {self.outcome}"
        return f"{what}; {remedy(self.role, self.outcome)}"


def remedy(role: Role, outcome: Outcome) -> str:
    if role is Role.BASELINE and outcome is Outcome.LABELS_ONLY:
        return _BASELINE_LABELS
    return REMEDIES[outcome]


def most_unscored(outcomes: Mapping[Role, Mapping[Outcome, int]]) -> Unscored | None:
    """The first model of whose answers fewer than half could be scored."""
    for role in Role:
        counts = outcomes.get(role, {})
        total, good = sum(counts.values()), counts.get(Outcome.OK, 0)
        if good * 2 < total:
            bad = {outcome: count for outcome, count in counts.items() if outcome is not Outcome.OK}
            worst = max(bad, key=lambda outcome: bad[outcome])
            return Unscored(role, worst, bad[worst], total)
    return None
