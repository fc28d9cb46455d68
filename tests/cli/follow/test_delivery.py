"""What is sent again, what is set aside, and what is waited for; the ledger is a fake that injects faults."""

import json
from collections import Counter
from collections.abc import Callable

import pytest

from modelcanary_cli.errors import InputError
from modelcanary_cli.feedback import NotNow, Refused, Taken
from modelcanary_cli.follow.delivery import Delivery, Stopped, Tally
from modelcanary_cli.follow.records import Record, Unusable, read_record, read_row

Answer = Taken | NotNow | Refused


class Ledger:
    """Takes all but the labels `bad`; `first` are its first answers."""

    def __init__(self, *first: Answer | Exception, blame: Callable[[int], int] = lambda row: row) -> None:
        self.first = list(first)
        self.blame = blame
        self.taken: list[str] = []
        self.asked: list[int] = []

    def send(self, body: bytes) -> Answer:
        if self.first:
            answer = self.first.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        rows = json.loads(body)
        self.asked.append(len(rows))
        bad = next((row for row, each in enumerate(rows) if each["label"] == "bad"), None)
        if bad is not None:
            return Refused(self.blame(bad), 422, f"row {bad}: label 'bad' is none of the classes", "the classes are")
        self.taken += [each["id"] for each in rows]
        return Taken(Counter(joined=len(rows)))


def records(*labels: str) -> list[Record]:
    return [
        read_record(f"at {place}", json.dumps({"id": f"i{place}", "label": label}).encode(), {})
        for place, label in enumerate(labels)
    ]


def deliver(ledger: Ledger, given: list[Record]) -> tuple[list[str], list[float], Tally]:
    aside: list[str] = []
    waits: list[float] = []
    tally = Tally("t")
    Delivery(ledger, tally, waits.append, lambda record, why: aside.append(f"{record.place}: {why}")).deliver(given)
    return aside, waits, tally


def test_the_bad_are_set_aside_and_the_rest_are_taken_in_order() -> None:
    ledger = Ledger()
    aside, waits, tally = deliver(ledger, records("a", "bad", "b", "c", "bad"))
    assert aside == [f"at {place}: label … is none of the classes" for place in (1, 4)]
    assert ledger.taken == ["i0", "i2", "i3"]
    assert (tally.labels, tally.counts, waits) == (3, {"joined": 3}, [])


@pytest.mark.parametrize("blame", [lambda row: 0, lambda row: row + 1, lambda row: 99])
def test_no_label_is_lost_by_anothers_fault(blame: Callable[[int], int]) -> None:
    """Even where the ledger counts rows otherwise."""
    ledger = Ledger(blame=blame)
    aside, _, _ = deliver(ledger, records("a", "b", "bad", "c"))
    assert [words.partition(":")[0] for words in aside] == ["at 2"]
    assert ledger.taken == ["i0", "i1", "i3"]


def test_who_has_several_labels_is_one_record() -> None:
    several = read_record("both", b'[{"id": "x", "label": "a"}, {"id": "y", "label": "bad"}]', {})
    ledger = Ledger()
    aside, _, _ = deliver(ledger, [several, *records("a")])
    assert [words.partition(":")[0] for words in aside] == ["both"]
    assert ledger.taken == ["i0"]


@pytest.mark.parametrize(
    ("answer", "wait", "problem"),
    [
        (NotNow("busy", 7.0, busy=True), 7.0, "it was not looked at yet"),
        (NotNow("the ledger does not answer"), 1.0, "the ledger does not answer"),
        (Refused(None, 404, "no models", "check"), 1.0, "the ledger refuses labels: 404 no models; check"),
        (Refused(None, 422, "no run", "put"), 1.0, "the ledger refuses labels: 422 no run; put"),
        (Refused(0, 403, "not you", "ask"), 1.0, "the ledger refuses labels: 403 not you; ask"),
        (InputError("token", "cannot be read", "mount it"), 1.0, "token: cannot be read; mount it"),
    ],
)
def test_what_is_nobodys_fault_is_waited_for(answer: Answer | Exception, wait: float, problem: str) -> None:
    ledger = Ledger(answer)
    tally = Tally("t")
    seen: list[tuple[float, str]] = []

    def waits(seconds: float) -> None:
        seen.append((seconds, tally.problem))

    Delivery(ledger, tally, waits, lambda *_: pytest.fail("set aside")).deliver(records("a"))
    assert seen == [(wait, problem)]
    assert (ledger.taken, tally.problem) == (["i0"], "")


def test_pauses_grow_and_end_with_the_source() -> None:
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 7:
            raise Stopped

    with pytest.raises(Stopped):
        Delivery(Ledger(*[NotNow("no")] * 9), Tally("t"), wait, lambda *_: None).deliver(records("a"))
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


def test_no_request_holds_more_than_the_ledger_takes() -> None:
    ledger = Ledger()
    many = [Record(str(place), (b'{"id":"i","label":"a"}',) * 9_000, 9_000) for place in range(5)]
    deliver(ledger, many)
    assert ledger.asked == [18_000, 18_000, 9_000]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"{",
        b"[]x",
        b"7",
        b'{"id": "x"}',
        b'{"id": 1, "label": "a"}',
        b'{"specversion": "1.0"}',
        b"[" * 9999,
    ],
    ids=lambda body: str(body[:20]),
)
def test_what_can_never_be_a_label(body: bytes) -> None:
    with pytest.raises(Unusable):
        read_record("here", body, {})
    with pytest.raises(Unusable):
        read_row("here", body)


def test_a_row_of_a_file_is_read_as_import_does() -> None:
    row = read_row("here", b'{"id": "x", "label": 2.0, "ts": null, "labelledAt": 5, "index": 1}')
    assert [json.loads(item) for item in row.items] == [{"id": "x", "label": "2", "index": 1}]
