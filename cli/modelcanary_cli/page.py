"""The report's page: a record as one HTML document with no outside resource and no script.

Called by `report`. It shows what the record says, and computes nothing but differences and units.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.resources import files

import yaml

from modelcanary_cli.charts import calibration_chart, delta_chart, evidence_chart
from modelcanary_cli.svg import Content, Markup, element, join
from modelcanary_gate.record import ClassRow, Record
from modelcanary_gate.vocabulary import Verdict

#: Nothing may be fetched or run, whatever the record holds.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
#: Of the counts whose names do not say it.
_MEANINGS = {
    "scored": "pairs of which both answers gave a loss",
    "unlabelled": "scored pairs whose label may still come",
    "missing": "scored pairs whose label has not come in time",
    "duplicate": "labels that came again and said the same",
    "conflict": "pairs of which another label came that said otherwise; the first counts",
    "unmatched": "labels whose id is of no pair",
    "unsampled": "labels of requests that were not mirrored",
    "ambiguous": "labels whose id is of several pairs",
    "expired": "labels that came too late to count",
    "dropped": "requests that were not mirrored, because of this limit",
}
_WORDS = {Verdict.PROMOTE: "Promote", Verdict.ROLL_BACK: "Roll back", Verdict.CONTINUE: "Undecided"}


def page(record: Record) -> str:
    """The whole document."""
    style = files("modelcanary_cli").joinpath("report.css").read_text(encoding="utf-8")
    title = f"{_WORDS[record.verdict]}: {record.name or record.run}"
    head = element(
        "head",
        Markup('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'),
        Markup('<meta name="color-scheme" content="light dark">'),
        element("title", f"{title} - ModelCanary"),
        element("style", Markup(style)),
    )
    sections = (
        _header(record),
        _figures(record),
        _notes(record),
        _delta(record),
        _evidence(record),
        _classes(record.classes),
        _calibration(record),
        _guards(record),
        _traffic(record),
        _timeline(record),
        _spec(record),
        _footer(record),
    )
    body = element("body", element("main", *sections))
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def _header(record: Record) -> Markup:
    when = " to ".join(_time(time) for time in (record.startedAt, record.endedAt) if time is not None)
    models = [("baseline", record.baseline), ("candidate", record.candidate), ("run", record.run), ("when", when)]
    return element(
        "header",
        element("p", "ModelCanary · ", record.command, class_="kicker"),
        element("h1", record.name or record.run),
        element(
            "p",
            element("span", _WORDS[record.verdict], class_=f"badge {record.verdict}"),
            " ",
            element("span", str(record.reason), class_="reason"),
        ),
        element("p", record.message, class_="message"),
        element(
            "dl",
            *(join(element("dt", name), element("dd", value)) for name, value in models if value),
        ),
    )


def _figures(record: Record) -> Markup:
    last = next((look for look in reversed(record.looks) if look.delta is not None), None)
    judged = f", {last.judged:,} of them judged" if last is not None and last.judged is not None else ""
    cards = [("Pairs", f"{record.pairs:,}", f"{record.labelled:,} labelled{judged}")]
    if last is not None:
        cards += [
            ("Delta", _nats(last.delta), f"95% within {_nats(last.lower)} to {_nats(last.upper)}"),
            ("Margin", _nats(last.margin), "worse by less than this is as good"),
            ("Baseline's loss", _plain(last.baselineLoss), f"{record.unit}, mean of labelled pairs"),
        ]
    if last is not None and record.thresholds is not None:
        cards += [
            ("Roll-back evidence", _factor(last.rollbackEvidence), f"decides at {_factor(record.thresholds.rollback)}"),
            (
                "Promotion evidence",
                _factor(last.promotionEvidence),
                f"decides at {_factor(record.thresholds.promotion)}",
            ),
        ]
    return element(
        "section",
        *(
            element(
                "div", element("h3", name), element("p", value, class_="value"), element("p", below, class_="below")
            )
            for name, value, below in cards
        ),
        class_="cards",
    )


def _notes(record: Record) -> Markup:
    return join(*(element("p", note, class_="note") for note in record.notes))


def _delta(record: Record) -> Markup:
    chart = delta_chart(record.looks, record.unit)
    if not chart:
        return Markup()
    keys = [
        ("delta", f"delta: the candidate's loss minus the baseline's, {record.unit}"),
        ("band", "95% bounds, valid at every look"),
        ("margin", "margin of a promotion"),
    ]
    return _figure("Delta", chart, keys, "Above zero the candidate is worse. The first looks may leave the frame.")


def _evidence(record: Record) -> Markup:
    chart = Markup() if record.thresholds is None else evidence_chart(record.looks, record.thresholds)
    if not chart:
        return Markup()
    keys = [("rollback", "for a roll-back"), ("promotion", "for a promotion"), ("threshold", "where it decides")]
    said = "A factor on a logarithmic scale: 1 is none. Less than 0.001 or more than a million is drawn at that edge."
    return _figure("Evidence", chart, keys, said)


def _calibration(record: Record) -> Markup:
    if record.calibration is None:
        return Markup()
    found = record.calibration
    keys = [
        ("baseline", f"baseline, error {_plain(found.baselineError)}"),
        ("candidate", f"candidate, error {_plain(found.candidateError)}"),
    ]
    said = (
        "On the diagonal a model is right as often as it says. Larger dots stand for more pairs; errors are debiased."
    )
    return _figure("Calibration", calibration_chart(found), keys, said)


def _figure(heading: str, chart: Markup, keys: Sequence[tuple[str, str]], said: str) -> Markup:
    legend = [element("span", element("i", class_=f"key {name}"), text, class_="legend") for name, text in keys]
    return element(
        "section",
        element("h2", heading),
        element("figure", chart, element("figcaption", *legend, element("span", said, class_="said"))),
    )


def _classes(rows: Sequence[ClassRow]) -> Markup:
    if not rows:
        return Markup()
    accurate = any(row.baselineAccuracy is not None for row in rows)
    bounded = any(row.lower is not None for row in rows)
    # on a phone the first columns are seen without scrolling
    heads = ["class", "labelled", "delta", *["95% bounds"] * bounded, "baseline's loss", "candidate's loss"]
    heads += ["baseline right", "candidate right"] * accurate
    cells = []
    for row in rows:
        delta = None
        if row.baselineLoss is not None and row.candidateLoss is not None:
            delta = row.candidateLoss - row.baselineLoss
        line = [row.name, f"{row.labelled:,}", _nats(delta)]
        if bounded:
            line.append("-" if row.lower is None else f"{_nats(row.lower)} to {_nats(row.upper)}")
        line += [_plain(row.baselineLoss), _plain(row.candidateLoss)]
        if accurate:
            line += [_percent(row.baselineAccuracy), _percent(row.candidateAccuracy)]
        cells.append(line)
    return _section("Classes", _table(heads, cells))


def _guards(record: Record) -> Markup:
    heads = ["guard", "state", "candidate", "baseline", "limit", "type", ""]
    cells: list[list[Content]] = [
        [
            guard.name,
            element("span", guard.state, class_=f"state {guard.state}"),
            _short(guard.candidate),
            _short(guard.baseline),
            guard.limit or "-",
            guard.type,
            element("span", guard.message, class_="detail"),
        ]
        for guard in record.guards
    ]
    return _section("Guards", _table(heads, cells, numbers=(2, 3))) if cells else Markup()


def _traffic(record: Record) -> Markup:
    outcomes = sorted({name for counts in record.outcomes.values() for name in counts})
    heads = ["answers", *record.outcomes]
    cells = [[name, *(f"{counts.get(name, 0):,}" for counts in record.outcomes.values())] for name in outcomes]
    counted: list[list[Content]] = [
        [_spaced(name), f"{count:,}", element("span", _MEANINGS.get(name.partition(".")[0], ""), class_="detail")]
        for name, count in record.counts.items()
    ]
    return join(
        _section("Answers", _table(heads, cells)) if cells else None,
        _section("Counts", _table(["count", "number", "what is counted"], counted, numbers=(1,))) if counted else None,
    )


def _timeline(record: Record) -> Markup:
    items = [
        element(
            "li",
            element(
                "span", _time(event.time) if event.time is not None else f"look {event.look or 0:,}", class_="when"
            ),
            element("b", event.kind),
            " ",
            event.message,
        )
        for event in record.events
    ]
    return _section("Timeline", element("ol", *items, class_="timeline")) if items else Markup()


def _spec(record: Record) -> Markup:
    if not record.spec:
        return _section("Specification", element("p", "The defaults: no specification was given."))
    written = yaml.safe_dump(record.spec, sort_keys=False, allow_unicode=True, width=100)
    return _section("Specification", element("pre", written))


def _footer(record: Record) -> Markup:
    return element(
        "footer",
        element(
            "p",
            f"The delta is the mean difference of cross-entropies on the same pairs, in {record.unit}. "
            "Evidence is a factor by "
            "which a bet against 'no worse' (roll-back) or against 'worse than the margin' (promotion) has grown; it "
            "may be looked at as often as one likes.",
        ),
        element("p", f"modelcanary {record.version}, record schema {record.schemaVersion}"),
    )


def _section(heading: str, *content: Content) -> Markup:
    return element("section", element("h2", heading), *content)


def _table(heads: Sequence[str], rows: Sequence[Sequence[Content]], numbers: Sequence[int] | None = None) -> Markup:
    """`numbers` are the columns that are set to the right; all but the first by default."""
    right = range(1, len(heads)) if numbers is None else numbers
    sides = ["n" if i in right else None for i in range(len(heads))]
    head = element("tr", *(element("th", text, class_=side) for text, side in zip(heads, sides, strict=True)))
    body = [
        element("tr", *(element("td", cell, class_=side) for cell, side in zip(row, sides, strict=True)))
        for row in rows
    ]
    return element("div", element("table", element("thead", head), element("tbody", *body)), class_="scroll")


def _spaced(name: str) -> str:
    """`pairsInFile` as words."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()


def _time(value: float) -> str:
    return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _nats(value: float | None) -> str:
    return "-" if value is None else f"{value:+.4f}"


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}%"


def _factor(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1e}" if value >= 1e6 else f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"
