"""The closed vocabularies: one word per outcome, verdict and reason, wherever it is shown.

A reason reaches the condition, the Event, the metric, the log line and the report unchanged.
"""

from enum import StrEnum


class Role(StrEnum):
    BASELINE = "baseline"
    CANDIDATE = "candidate"


class SourceKind(StrEnum):
    """Where labels are read, beside those that are posted."""

    KAFKA = "kafka"
    FILES = "files"


class Outcome(StrEnum):
    """How one model answered one mirrored request. All but OK leave the pair without a loss."""

    OK = "ok"
    ERROR_STATUS = "errorStatus"  # an HTTP status of 400 or above
    TIMEOUT = "timeout"
    REFUSED = "refused"  # no connection, or it broke before the answer was whole
    TOO_LARGE = "tooLarge"
    UNDECODABLE = "undecodable"  # not JSON, or not of the protocol's shape
    LABELS_ONLY = "labelsOnly"  # decoded, but without probabilities
    TOP_K_ONLY = "topKOnly"
    CLASS_COUNT = "classCount"  # as many probabilities as there are classes is what is needed
    NOT_PROBABILITIES = "notProbabilities"  # negative, or a sum that is not 1
    NON_FINITE = "nonFinite"
    NO_PROMPT_LOGPROBS = "noPromptLogprobs"  # a language model whose server does not score what it is given


#: Outcomes that the error-rate guard counts as errors of the model: all without a usable answer, because a pair without
#: one has no loss, and a candidate that leaves out the hard requests would be judged by the easy ones. NON_FINITE has a
#: guard of its own.
ERROR_OUTCOMES = frozenset(Outcome) - {Outcome.OK, Outcome.NON_FINITE}


class Verdict(StrEnum):
    PROMOTE = "Promote"
    ROLL_BACK = "RollBack"
    CONTINUE = "Continue"


class Event(StrEnum):
    """What happens in a run that the outside can be told of, or asked about."""

    RUN_STARTED = "RunStarted"
    CANARY_STEP = "CanaryStep"
    HELD = "Held"  # somebody should look: a promotion is due and not made, or maxDuration is over
    STALLED = "Stalled"  # nothing goes on before somebody changes something; its end is told as well
    PROMOTED = "Promoted"
    ROLLED_BACK = "RolledBack"
    RUN_ENDED = "RunEnded"  # without a verdict, or the end of an observation
    CONFIRM_PROMOTION = "ConfirmPromotion"  # asked, not told: before a promotion


class Reason(StrEnum):
    """Why the verdict is what it is."""

    # Promote
    CANDIDATE_NO_WORSE = "CandidateNoWorse"
    # RollBack
    LOSS_REGRESSION = "LossRegression"
    AGREEMENT_TOO_LOW = "AgreementTooLow"
    ERROR_RATE = "ErrorRate"
    NON_FINITE = "NonFinite"
    CONFIDENT_ERRORS = "ConfidentErrors"
    CLASS_REGRESSION = "ClassRegression"
    ANALYSIS_TIMED_OUT = "AnalysisTimedOut"  # with onTimeout: Rollback
    # Continue
    WAITING_FOR_PAIRS = "WaitingForPairs"
    WAITING_FOR_LABELS = "WaitingForLabels"
    WAITING_FOR_MATURITY = "WaitingForMaturity"
    TOO_FEW_SAMPLES = "TooFewSamples"
    TOO_EARLY = "TooEarly"  # minDuration
    EVIDENCE_BELOW_THRESHOLD = "EvidenceBelowThreshold"
    NOT_YET_CONSISTENT = "NotYetConsistent"  # above the threshold, not yet for as many blocks as asked
    RECENT_REGRESSION = "RecentRegression"
    TREND_WORSENING = "TrendWorsening"
    GUARD_VETO = "GuardVeto"
    GUARD_MISSING = "GuardMissing"  # a guard has no value to go by
    LABELS_BIASED = "LabelsBiased"
    LABELS_CONFLICTING = "LabelsConflicting"  # too many of them came again and said otherwise
    PROMOTION_NOT_ALLOWED = "PromotionNotAllowed"  # label-free, without the user's opt-in
    HELD = "Held"  # maxDuration reached: the baseline goes on serving
