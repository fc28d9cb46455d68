"""Sends batches of labels to a ledger, and again where it could not take them.

`Mailbox` sends once and says what came of it: `follow.delivery` has its own way to wait. `Feedback` sends until it is
taken, for `labels`. Labels say the same when they come twice, so what had no answer is sent again. It must not know
what is in a batch, but for whose rows they are.
"""

import ssl
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import httpx
import msgspec

from modelcanary_cli.errors import InputError
from modelcanary_cli.label_files import Batch
from modelcanary_cli.ledger_client import LedgerError

LIMIT = httpx.Timeout(60.0, connect=5.0)
#: What became of labels, in the order that an answer has.
COUNTS = ("joined", "duplicate", "conflict", "unmatched", "unsampled", "ambiguous", "expired", "unscored")
_AGAIN = frozenset({408, 429, 500, 502, 503, 504, 507})
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0


@dataclass(frozen=True, slots=True)
class Taken:
    counts: Counter[str]


@dataclass(frozen=True, slots=True)
class NotNow:
    """It may be taken another time. `wait`: seconds, where the ledger has said when."""

    problem: str
    wait: float | None = None
    busy: bool = False  # by the sender's quota: the ledger works


@dataclass(frozen=True, slots=True)
class Refused:
    """It will not be taken as it is. `row`: of the first label that cannot be used, where it is a label's fault."""

    row: int | None
    status: int
    problem: str
    remedy: str


class Mailbox:
    """Labels of one ModelCanary. `untyped`: text may be a class's index; `source`: who follows says what it reads."""

    def __init__(
        self, client: httpx.Client, namespace: str, name: str, *, untyped: bool = False, source: str = ""
    ) -> None:
        self._client = client
        query = {"namespace": namespace, "name": name, "untyped": "true" if untyped else "", "source": source}
        self._query = {key: value for key, value in query.items() if value}

    def send(self, body: bytes) -> Taken | NotNow | Refused:
        """Raises InputError where the ledger's certificate or the own token cannot be used."""
        try:
            answer = self._client.post("/v1/feedback", params=self._query, content=body)
        except httpx.TransportError as error:
            _refuse_certificate(error)
            return NotNow(f"the ledger does not answer: {str(error) or type(error).__name__}")
        if answer.is_success:
            return Taken(_counts(answer.content))
        try:
            said = msgspec.json.decode(answer.content, type=dict[str, object])
        except msgspec.DecodeError:
            said = {}
        detail = str(said.get("detail") or answer.text[:200] or answer.reason_phrase)
        if answer.status_code in _AGAIN:
            problem = f"the ledger cannot take them now: {answer.status_code} {detail}"
            return NotNow(problem, _seconds(answer.headers), answer.status_code == 429)
        row = said.get("row")
        row = row if isinstance(row, int) and row >= 0 else None
        return Refused(row, answer.status_code, detail, str(said.get("remedy") or "see docs/labels.md"))


class Feedback:
    """To one ModelCanary. `patience`: seconds that a batch may wait for a ledger that does not take it."""

    def __init__(
        self, client: httpx.Client, namespace: str, name: str, patience: float, say: Callable[[str], None]
    ) -> None:
        self._mailbox = Mailbox(client, namespace, name, untyped=True)
        self._patience = patience
        self._say = say
        self._said = ""

    def post(self, batch: Batch) -> Counter[str]:
        """What became of the batch's labels. Raises InputError where a row cannot be used, LedgerError otherwise."""
        deadline = time.monotonic() + self._patience
        pause = FIRST_PAUSE
        while True:
            match self._mailbox.send(batch.body):
                case Taken(counts):
                    return counts
                case Refused() as refused:
                    raise _unusable(refused, batch)
                case NotNow(problem, wait, busy):
                    if busy and wait is not None:
                        deadline += wait  # the ledger works, and has said when
            wait = pause if wait is None else wait
            if time.monotonic() + wait > deadline:
                raise LedgerError(problem)
            if problem != self._said:  # a quota is met time and again
                self._say(f"{problem}; again in {wait:.0f} s")
                self._said = problem
            time.sleep(wait)
            pause = min(2 * pause, LONGEST_PAUSE)


def _unusable(refused: Refused, batch: Batch) -> InputError:
    row = refused.row
    if row is not None and row < len(batch.rows):
        place = f"row {batch.rows[row]}: {refused.problem.removeprefix(f'row {row}: ')}"
        return InputError(batch.source, place, refused.remedy)
    return InputError("the ledger", f"refuses them: {refused.status} {refused.problem}", refused.remedy)


def _counts(content: bytes) -> Counter[str]:
    try:
        found = msgspec.json.decode(content, type=dict[str, int])
    except msgspec.DecodeError as error:
        raise LedgerError(f"the ledger's answer cannot be read: {error}; is --ledger a ledger?") from error
    return Counter({name: found.get(name, 0) for name in COUNTS})


def _seconds(headers: Mapping[str, str]) -> float | None:
    text = headers.get("retry-after", "")
    return max(1.0, float(text)) if text.isdecimal() and len(text) < 7 else None


def _refuse_certificate(error: BaseException) -> None:
    """Waiting does not help where the certificate is not believed."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise InputError(
                "--ledger", f"its certificate is not believed: {cause.verify_message}", "give its --ledger-ca"
            ) from error
        cause = cause.__cause__ or cause.__context__
