"""What a source holds, as records that a ledger takes: one message or one line each, with where it stands.

Called by `topics` and `folders`. Read by the ledger's own readers, so that the same bytes mean the same by every way.
Whether a class is one of the model's is known to the ledger alone.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from modelcanary_cli.label_files import COLUMNS
from modelcanary_ledger.aliases import events, foreign
from modelcanary_ledger.errors import LedgerError
from modelcanary_ledger.labels import MAX_LABELS
from modelcanary_ledger.records import read_records

_QUOTED = re.compile(r"(['\"`]).*?\1|(?<=encoding ).*", re.DOTALL)
_ROW = re.compile(r"^row \d+: ")


class Unusable(Exception):
    """It is no label, and will not be one later. Its text holds nothing of what was read."""


@dataclass(frozen=True, slots=True)
class Record:
    """`place` is what messages call it; `items`: JSON values, each with one label or more; `labels`: how many."""

    place: str
    items: tuple[bytes, ...]
    labels: int

    @property
    def size(self) -> int:
        return sum(len(item) + 1 for item in self.items)


def read_record(place: str, body: bytes, headers: Mapping[str, str]) -> Record:
    """Of a body as `POST /v1/feedback` would take it; `headers`: of a CloudEvent in binary mode. Raises Unusable."""
    try:
        labels = len(read_records(body, headers, {}))
        items = tuple(_item(value, event) for value, event in events(body, headers))
    except LedgerError as error:
        raise Unusable(masked(error.detail)) from error
    except (UnicodeError, RecursionError, ValueError) as error:
        raise Unusable(f"cannot be read ({type(error).__name__})") from error
    if labels > MAX_LABELS:
        raise Unusable(f"holds {labels} labels, and {MAX_LABELS} are the most")
    return Record(place, items, labels)


def read_row(place: str, line: bytes) -> Record:
    """Of a line in a file, as `labels import` reads it: other columns are left out, numbers may be names of classes.

    Raises Unusable.
    """
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Unusable(f"cannot be read ({type(error).__name__})") from error
    if isinstance(value, dict) and not foreign(line, {}):
        value = {name: value[name] for name in COLUMNS if value.get(name) is not None}
        label = value.get("label")
        if isinstance(label, float) and label.is_integer():
            label = int(label)
        if isinstance(label, int) and not isinstance(label, bool):
            value["label"] = str(label)
    return read_record(place, json.dumps(value).encode(), {})


def _item(value: object, event: object) -> bytes:
    """An event that was in headers becomes one that is in the body: several messages go into one request."""
    subject, source = getattr(event, "subject", None), getattr(event, "source", "")
    if event is not None:
        value = {"specversion": "1.0", "subject": subject, "source": source, "data": value}
    return json.dumps(value).encode()


def masked(problem: str) -> str:
    """Without the row, which is of a request, and without what a label says."""
    return _QUOTED.sub("…", _ROW.sub("", problem))[:300]
