"""Why an answer, or one row of it, has no log-probabilities: an outcome to record and a cause to count.

An answer that cannot be read is a datum about a model, so it ends as a value (`Unread`); `Unreadable` carries
it only as far as the reader. Messages name fields and numbers that are needed to mend a specification, and
never an instance's own values beyond the one probability that is wrong.
"""

from dataclasses import dataclass
from enum import StrEnum

from modelcanary_gate.vocabulary import Outcome
from modelcanary_sidecar.errors import SidecarError


class Cause(StrEnum):
    """What lies behind an outcome: finer than the ledger records, for the counters and the log."""

    NO_ANSWER = "noAnswer"
    STATUS = "status"
    ENCODING = "encoding"  # a Content-Encoding that is not known, or that does not inflate
    SIZE = "size"
    HTML = "html"
    NOT_JSON = "notJson"
    SHAPE = "shape"  # JSON, but not what the protocol answers
    OUTPUT = "output"  # the named output or pointer leads nowhere
    ROW_COUNT = "rowCount"  # another number of instances than the other model answered
    LABELS = "labels"
    TOP_K = "topK"
    WIDTH = "width"  # another number of columns than there are classes
    NAMES = "names"  # names in the answer that are not the declared classes
    NOT_NUMBER = "notNumber"
    NEGATIVE = "negative"
    SUM = "sum"
    RANGE = "range"  # above 1, or a log-probability above 0
    NON_FINITE = "nonFinite"
    PROMPT_LOGPROBS = "promptLogprobs"  # of a language model: its server does not score what it is given


class ReadingError(SidecarError):
    """The instructions say how to read answers in a way that cannot be followed; no answer is to blame."""


@dataclass(frozen=True, slots=True)
class Unread:
    """An answer, or one row of it, without log-probabilities."""

    outcome: Outcome
    cause: Cause
    message: str


class Unreadable(SidecarError):
    """Ends the reading of a whole answer."""

    def __init__(self, outcome: Outcome, cause: Cause, message: str) -> None:
        super().__init__(message)
        self.unread = Unread(outcome, cause, message)
