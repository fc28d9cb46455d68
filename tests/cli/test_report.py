"""The report: one HTML file that shows all of a record, fetches nothing and runs nothing."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tests.cli.made import Cli, models, parquet
from tests.cli.test_record import FULL

from modelcanary_cli.page import page
from modelcanary_cli.record import write_record
from modelcanary_gate.record import CalibrationBin, ClassRow, Event, GuardRow, Look, Record
from modelcanary_gate.vocabulary import Reason, Verdict

VOID = {"meta"}


class Document(HTMLParser):
    """Elements and attributes of a page; notes where tags do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []  # tag, name, value
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    @property
    def said(self) -> str:
        return "\n".join(self.text)


def drawings(text: str) -> list[ET.Element]:
    return [ET.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL)]


def test_shows_all_of_a_record() -> None:
    document = Document(page(FULL))
    for expected in (
        *("Roll back", "LossRegression", "worse", "fraud-1", "http://127.0.0.1:9000", "http://127.0.0.1:9001"),
        *("+0.3000", "95% within +0.1000 to +0.5000", "20,000", "decides at 2,000", "decides at 200"),
        *("legit", "+0.2000", "90.0%", "80.0%", "errors", "failed", "max +0.005", "evidence 1 of 6,000"),
        *("baseline, error 0.1000", "candidate, error 0.2000", "timeout", "look here", "look 2", "a note", "missing"),
        *("Delta", "Evidence", "Classes", "Calibration", "Guards", "Answers", "Timeline", "Specification"),
        "2026-09-21 14:13:20 UTC to 2026-09-21 14:14:20 UTC",
    ):
        assert expected in document.said, expected
    assert "- fraud" in document.said  # the specification, as YAML
    assert len(drawings(page(FULL))) == 6  # three charts, each wide and narrow


def test_axes_are_named_with_their_units() -> None:
    said = Document(page(FULL)).said
    for title in (
        "delta, nats",
        "evidence, a factor",
        "time, UTC",
        "probability of the predicted class",
        "share of predictions that are right",
    ):
        assert said.count(title) >= 2, title
    untimed = replace(FULL, looks=[replace(look, time=None) for look in FULL.looks])
    assert "labelled pairs" in Document(page(untimed)).said


def test_fetches_nothing_and_runs_nothing() -> None:
    text = page(FULL)
    document = Document(text)
    assert not {"script", "link", "img", "iframe", "object", "embed", "base", "form"} & set(document.tags)
    assert not [found for found in document.attributes if found[1] in ("src", "href", "srcset") or found[1][:2] == "on"]
    assert re.findall(r"url\((?!#)", text) == [] and "@import" not in text
    assert ("meta", "content", "width=device-width, initial-scale=1") in document.attributes
    assert any("default-src 'none'" in value for _, _, value in document.attributes)
    assert "@media print" in text and "prefers-color-scheme: dark" in text


EVIL = "</style></title><script>alert(1)</script><img src=x onerror='alert(2)'>\"&amp;"


def test_what_users_wrote_is_text_and_no_markup() -> None:
    evil = Record(
        run=EVIL,
        command=EVIL,
        verdict=Verdict.CONTINUE,
        reason=Reason.HELD,
        message=EVIL,
        pairs=1,
        labelled=1,
        baseline=EVIL,
        candidate=EVIL,
        name=EVIL,
        classes=[ClassRow(EVIL, 1)],
        guards=[GuardRow(EVIL, EVIL, EVIL, EVIL, limit=EVIL)],
        events=[Event(EVIL, EVIL)],
        counts={EVIL: 1},
        outcomes={EVIL: {EVIL: 1}},
        notes=[EVIL],
        spec={EVIL: EVIL},
        version=EVIL,
    )
    text = page(evil)
    document = Document(text)
    assert "script" not in document.tags and "img" not in document.tags
    assert {name for _, name, _ in document.attributes} <= {"lang", "charset", "name", "content", "http-equiv", "class"}
    for place in ("run", "command", "message", "baseline", "candidate", "name", "notes", "version"):
        plain = replace(evil, **{place: ["?"] if place == "notes" else "?"})
        assert text.count("&lt;script&gt;") > page(plain).count("&lt;script&gt;"), place
    assert EVIL in document.said


def test_a_record_of_nothing_is_drawn_too() -> None:
    text = page(Record("r", "run", Verdict.CONTINUE, Reason.WAITING_FOR_PAIRS, "no pair yet", 0, 0))
    assert "Undecided" in Document(text).said and drawings(text) == []
    one = replace(FULL, looks=FULL.looks[:1], calibration=None)
    assert drawings(page(one)) == []


STILL = Look(100, 100, Verdict.CONTINUE, Reason.HELD, None, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0)
SAME = Look(5, 5, Verdict.CONTINUE, Reason.HELD, 7.0, 1e-9, rollbackEvidence=0.0, promotionEvidence=1e300)


@pytest.mark.parametrize(
    "looks",
    [
        [STILL, replace(STILL, labelled=200)],
        [SAME, SAME],
        [replace(SAME, labelled=i, time=60.0 * i, delta=(-1) ** i * 1e6, upper=1e9) for i in range(3000)],
    ],
    ids=["all zero", "all the same", "wild"],
)
def test_charts_stay_within_their_frames(looks: list[Look]) -> None:
    found = drawings(page(replace(FULL, looks=looks)))
    assert len(found) == 6
    for svg in found:
        _, _, width, height = map(float, svg.attrib["viewBox"].split())
        for text in svg.iter("text"):
            assert 0 <= float(text.attrib["x"]) <= width and 0 <= float(text.attrib["y"]) <= height
        for line in svg.iter("path"):
            numbers = [float(number) for number in re.findall(r"-?[\d.]+(?:e[+-]?\d+)?", line.attrib["d"])]
            assert len(numbers) <= 2 * 2 * 501
            for x, y in zip(numbers[::2], numbers[1::2], strict=True):
                assert -0.3 * width <= x <= 1.3 * width and -0.3 * height <= y <= 1.3 * height


def test_a_line_goes_through_its_points() -> None:
    """The delta's last point is at the right, as far between zero and the tick above it as it should be."""
    wide = drawings(page(FULL))[0]
    (delta,) = [line for line in wide.iter("path") if line.attrib["class"] == "delta"]
    (zero,) = [line for line in wide.iter("line") if line.attrib["class"] == "zero"]
    x, y = map(float, delta.attrib["d"].split("L")[-1].split())
    assert x == pytest.approx(760 - 12, abs=0.1)
    ticks = {
        text.text: float(text.attrib["y"]) - 4 for text in wide.iter("text") if text.attrib["text-anchor"] == "end"
    }
    assert ticks["0"] == pytest.approx(float(zero.attrib["y1"]), abs=0.1)
    assert y == pytest.approx(ticks["0"] + 0.3 / 0.2 * (ticks["0.2"] - ticks["0"]), abs=0.2)


def test_calibration_dots_grow_with_their_pairs() -> None:
    square = drawings(page(FULL))[4]
    sizes = {dot.attrib["class"]: float(dot.attrib["r"]) for dot in square.iter("circle")}
    assert sizes["baseline dot"] == 7.0 and 2.0 < sizes["candidate dot"] < 7.0
    small = replace(FULL.calibration, candidate=[CalibrationBin(1, 0.5, 0.5)]) if FULL.calibration else None
    assert float(drawings(page(replace(FULL, calibration=small)))[4].findall(".//circle")[1].attrib["r"]) < 3


def test_the_command_writes_beside_the_record(cli: Cli) -> None:
    write_record(FULL, Path("record.json"))
    answer = cli("report", "record.json")
    assert (answer.code, answer.out, answer.err) == (0, "record.html\n", "")
    assert Path("record.html").read_text() == page(FULL)
    assert cli("report", "record.json", "-o", "other.html").out == "other.html\n"
    assert Path("other.html").read_text() == page(FULL)


def test_the_command_never_replaces_its_record(cli: Cli) -> None:
    write_record(FULL, Path("record.json"))
    before = Path("record.json").read_text()
    assert "is the record itself" in cli("report", "record.json", "-o", "./record.json").complaint()
    assert Path("record.json").read_text() == before


def test_the_command_refuses_what_is_no_record(cli: Cli) -> None:
    Path("x.json").write_text("{}")
    for arguments in (("x.json",), ("missing.json",)):
        assert arguments[0] in cli("report", *arguments).complaint()
    write_record(FULL, Path("record.json"))
    assert "missing/r.html" in cli("report", "record.json", "-o", "missing/r.html").complaint()
    assert sorted(path.name for path in Path().iterdir()) == ["record.json", "x.json"]


def test_a_record_of_evaluate_gives_the_same_report_later(cli: Cli) -> None:
    made = models(1500, 1.0)
    parquet("b.parquet", id=made.ids, probabilities=made.baseline, label=made.names)
    parquet("c.parquet", id=made.ids, probabilities=made.candidate)
    files = ("--baseline", "b.parquet", "--candidate", "c.parquet")
    assert cli("evaluate", *files, "--record", "r.json", "--report", "now.html").code == 1
    assert cli("report", "r.json", "-o", "later.html").code == 0
    assert Path("now.html").read_text() == Path("later.html").read_text()
    assert {"cat", "dog", "eel", "Calibration", "nats, mean of labelled pairs"} <= set(
        Document(Path("now.html").read_text()).text
    )
