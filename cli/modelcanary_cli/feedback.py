"""Sends batches of labels to a ledger, and again where it could not take them.

Called by `labels`. Labels say the same when they come twice, so what had no answer is sent again. It must not know
what is in a batch, but for whose rows they are.
"""

import ssl
import time
from collections import Counter
from collections.abc import Callable, Mapping

import httpx
import msgspec

from modelcanary_cli.errors import InputError
from modelcanary_cli.label_files import Batch
from modelcanary_cli.ledger_client import LedgerError

LIMIT = httpx.Timeout(60.0, connect=5.0)
#: What became of labels, in the order that an answer has.
COUNTS = ("joined", "duplicate", "conflict", "unmatched", "unsampled", "ambiguous", "expired", "unscored")
_AGAIN = frozenset({408, 429, 500, 502, 503, 504, 507})
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0


class Feedback:
    """To one ModelCanary. `patience`: seconds that a batch may wait for a ledger that does not take it."""

    def __init__(
        self, client: httpx.Client, namespace: str, name: str, patience: float, say: Callable[[str], None]
    ) -> None:
        self._client = client
        self._query = {"namespace": namespace, "name": name, "untyped": "true"}
        self._patience = patience
        self._say = say
        self._said = ""

    def post(self, batch: Batch) -> Counter[str]:
        """What became of the batch's labels. Raises InputError where a row cannot be used, LedgerError otherwise."""
        deadline = time.monotonic() + self._patience
        pause = _FIRST_PAUSE
        while True:
            wait: float | None = None
            try:
                answer = self._client.post("/v1/feedback", params=self._query, content=batch.body)
            except httpx.TransportError as error:
                _refuse_certificate(error)
                problem = f"the ledger does not answer: {str(error) or type(error).__name__}"
            else:
                if answer.is_success:
                    return _counts(answer.content)
                problem = _problem(answer, batch)
                wait = _seconds(answer.headers)
                if answer.status_code == 429 and wait is not None:
                    deadline += wait  # the ledger works, and has said when
            wait = pause if wait is None else wait
            if time.monotonic() + wait > deadline:
                raise LedgerError(problem)
            if problem != self._said:  # a quota is met time and again
                self._say(f"{problem}; again in {wait:.0f} s")
                self._said = problem
            time.sleep(wait)
            pause = min(2 * pause, _LONGEST_PAUSE)


def _counts(content: bytes) -> Counter[str]:
    try:
        found = msgspec.json.decode(content, type=dict[str, int])
    except msgspec.DecodeError as error:
        raise LedgerError(f"the ledger's answer cannot be read: {error}; is --ledger a ledger?") from error
    return Counter({name: found.get(name, 0) for name in COUNTS})


def _problem(answer: httpx.Response, batch: Batch) -> str:
    """Why it was not taken, where it may be another time; raises InputError where it will not."""
    try:
        said = msgspec.json.decode(answer.content, type=dict[str, object])
    except msgspec.DecodeError:
        said = {}
    detail = said.get("detail") or answer.text[:200] or answer.reason_phrase
    if answer.status_code in _AGAIN:
        return f"the ledger cannot take them now: {answer.status_code} {detail}"
    remedy = said.get("remedy") or "see docs/labels.md"
    row = said.get("row")
    if isinstance(row, int) and 0 <= row < len(batch.rows):
        place = f"row {batch.rows[row]}: {str(detail).removeprefix(f'row {row}: ')}"
        raise InputError(batch.source, place, str(remedy))
    raise InputError("the ledger", f"refuses them: {answer.status_code} {detail}", str(remedy))


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
