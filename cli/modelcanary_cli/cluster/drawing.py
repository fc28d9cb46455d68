"""A ModelCanary as `status` shows it in a terminal of 80 columns: where it stands, on what evidence, what runs.

Called by `status`. Everything is shown as text; nothing that an object holds can be markup, or reach the terminal as
a control character.
"""

import math
import textwrap
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from modelcanary_cli.cluster.following import what_follows
from modelcanary_cli.cluster.look import Picture
from modelcanary_cli.cluster.scale import delta_line, share_bar
from modelcanary_cli.cluster.tree import short_age, tree
from modelcanary_gate.explain import duration
from modelcanary_gate.plan.phases import Phase
from modelcanary_gate.vocabulary import Verdict
from modelcanary_operator.api import Object

_WIDTH = 80
_LABEL = 11
_GOOD = frozenset({"Ready", "Promoted", "MirrorHealthy", "LabelsAvailable", "CandidateAvailable"})
_STATES = {"ok": "green", "unknown": "dim", "veto": "yellow", "failed": "bold red"}
_PHASES = {
    Phase.STALLED: "bold red",
    Phase.ROLLING_BACK: "bold red",
    Phase.COOLDOWN: "red",
    Phase.SERVING: "green",
    Phase.OBSERVING: "green",
    Phase.PROMOTING: "bold green",
}
_VERDICTS: dict[str, str] = {Verdict.PROMOTE: "green", Verdict.ROLL_BACK: "red", Verdict.CONTINUE: "yellow"}


def printable(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)


def draw(picture: Picture, now: float) -> RenderableType:
    parts: list[RenderableType] = [_heading(picture, now)]
    if picture.evidence:
        parts += ["", _evidence(picture)]
    guards = picture.evidence.get("guards") or []
    if guards:
        parts += ["", _guards(guards)]
    parts += ["", tree(picture, now), "", _conditions(picture)]
    if picture.events:
        parts += ["", _events(picture, now)]
    if picture.unseen:
        parts += ["", Text(f"You may not read {', '.join(picture.unseen)}: that is left out.", "yellow")]
    return Group(*parts)


def _rows(rows: Sequence[tuple[str, str | Text]]) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(style="dim", no_wrap=True, width=_LABEL)
    table.add_column(width=_WIDTH - _LABEL - 1)
    for label, value in rows:
        table.add_row(label, value if isinstance(value, Text) else Text(printable(value)))
    return table


def _heading(picture: Picture, now: float) -> Table:
    status, run = picture.status, picture.status.run
    phase = Text(str(status.phase), _PHASES.get(status.phase, "bold yellow"))
    if status.reason and status.reason != status.phase:
        phase.append(f"  {printable(status.reason)}", "")
    rows: list[tuple[str, str | Text]] = [(picture.namespace, Text(picture.name, "bold")), ("phase", phase)]
    if picture.deleting:
        rows.append(("deleted", Text(f"{duration(now - picture.deleting)} ago; its finalizer keeps it", "yellow")))
    if status.verdict and run is not None:
        rows.append(("verdict", Text(status.verdict, _VERDICTS.get(status.verdict, ""))))
    if status.message and status.reason != status.phase:
        rows.append(("because", status.message))
    rows.append(("next", Text(printable(what_follows(picture, now)), "bold")))
    images = {workload.role: ", ".join(workload.images) for workload in picture.workloads}
    baseline = images.get("baseline") or images.get("target", "")
    if baseline:
        rows.append(("baseline", f"{baseline}{_template(status.baseline)}"))
    if run is not None:
        shadow = run.baseline if run.observing_since is not None else run.candidate
        rows.append(("candidate", f"{images.get('candidate', 'no pods')}{_template(shadow)}"))
        twice = f": a promotion needs {2**run.attempt} times the evidence"
        attempt = f", attempt {run.attempt + 1}{twice}" if run.attempt else ""
        rows.append(("run", f"{run.id}, for {duration(now - run.created_at)}{attempt}"))
        rows.append(("weight", _weight(picture)))
    elif status.last is not None:
        last = status.last
        ended = last.decision.rpartition("/")[2]
        rows.append(("last run", f"{last.run}: {ended} ({last.reason}), {duration(now - last.at)} ago"))
    if status.rejected is not None and status.phase is Phase.COOLDOWN:
        often = "once" if status.rejected.attempts == 1 else f"{status.rejected.attempts} times"
        rows.append(("rejected", f"template {status.rejected.template}, {often}"))
    asked = [verb for verb, named in picture.verbs.items() if run is not None and named == run.id]
    if asked:
        rows.append(("asked for", ", ".join(asked)))
    return _rows(rows)


def _template(template: str) -> str:
    return f" (template {template})" if template else ""


def _weight(picture: Picture) -> str:
    run, spec = picture.status.run, picture.spec
    steps = spec.canary.steps if spec is not None else ()
    if run is not None and run.observing_since is not None:
        return "promoted: the candidate is the template before, and answers nobody"
    if not steps:
        return "0% of users: shadow only"
    shares = ", ".join(f"{100 * share:.4g}%" for share in steps)
    done = run.step if run is not None else 0
    return f"{picture.weight or 0}% of users, step {done} of {len(steps)} ({shares})"


def _evidence(picture: Picture) -> Table:
    found = picture.evidence
    current = picture.status.run is not None and found.get("run") == picture.status.run.id
    rows: list[tuple[str, str | Text]] = [
        ("evidence", Text("of this run" if current else f"of {found.get('run')}", "dim"))
    ]
    coverage = f" ({100 * float(found['coverage']):.0f}%)" if "coverage" in found else ""
    counts = f"{found.get('pairs', 0):,} recorded, {found.get('labelled', 0):,} labelled{coverage}"
    dropped = f", {found['dropped']:,} not mirrored" if found.get("dropped") else ""
    rows.append(("pairs", f"{counts}, {found.get('judged', 0):,} judged{dropped}"))
    unit = picture.spec.model.unit if picture.spec is not None else "nats"
    if "baselineLoss" in found:
        rows.append(("loss", f"baseline {found['baselineLoss']}, candidate {found.get('candidateLoss', '?')} {unit}"))
    if "delta" in found:
        rows += _delta(found, unit)
    for key, name, style in (("rollback", "roll back", "red"), ("promotion", "promote", "green")):
        if key in found:
            rows.append((name, _side(picture, key, found[key], style)))
    return _rows(rows)


def _delta(found: Object, unit: str) -> list[tuple[str, str | Text]]:
    delta, lower, upper, margin = (_number(found.get(name)) for name in ("delta", "lower", "upper", "margin"))
    if delta is None:
        return []
    bounds = f" within [{lower:+.4f}, {upper:+.4f}]" if lower is not None and upper is not None else ""
    limit = f", margin {margin:+.4f}" if margin is not None else ""
    return [
        ("delta", f"{delta:+.4f}{bounds} {unit}{limit}"),
        ("", delta_line(delta, lower, upper, margin)),
        ("", Text("0 no difference, ◆ delta with its bounds ━, M margin", "dim")),
    ]


def _side(picture: Picture, key: str, side: Object, style: str) -> Text:
    """Evidence grows by factors: the bar is on the scale of its logarithm."""
    evidence, threshold = _number(side.get("evidence")), _number(side.get("threshold"))
    if evidence is None or threshold is None:
        return Text("not known")
    share = share_of(evidence, threshold)
    after = ""
    if picture.spec is not None:
        hysteresis = picture.spec.analysis.hysteresis
        wanted = hysteresis.promote_after if key == "promotion" else hysteresis.rollback_after
        after = f", {side.get('blocksInARow', 0)} of {wanted} blocks"
    go = f", {side['pairsToGo']:,} pairs to go" if side.get("pairsToGo") else ""
    return Text.assemble(share_bar(share, style, 16), f" {evidence:.3g} of {threshold:.4g}{after}{go}")


def share_of(evidence: float, threshold: float) -> float:
    if evidence <= 1.0 or threshold <= 1.0:
        return 0.0
    return min(1.0, math.log(evidence) / math.log(threshold))


def _number(text: object) -> float | None:
    try:
        return None if text is None else float(str(text))
    except ValueError:
        return None


def _guards(guards: Sequence[Object]) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(style="dim", no_wrap=True, width=_LABEL)
    table.add_column(no_wrap=True, max_width=20, overflow="ellipsis")
    table.add_column(no_wrap=True)
    table.add_column()
    for index, guard in enumerate(guards):
        values = ", ".join(f"{role} {guard[role]}" for role in ("candidate", "baseline") if role in guard)
        parts = [values, str(guard.get("limit", "")), str(guard.get("detail", ""))]
        if "evidence" in guard and "threshold" in guard:
            parts.append(f"{guard['evidence']} of {guard['threshold']}")
        state = str(guard.get("state", ""))
        table.add_row(
            "guards" if not index else "",
            Text(printable(str(guard["name"]))),
            Text(state, _STATES.get(state, "")),
            Text(printable("; ".join(part for part in parts if part))),
        )
    return table


def _conditions(picture: Picture) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(style="dim", no_wrap=True, width=_LABEL)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis")
    for index, condition in enumerate(picture.conditions):
        good = condition.status == ("True" if condition.type in _GOOD else "False")
        style = "dim" if condition.status == "Unknown" else "green" if good else "yellow"
        table.add_row(
            "conditions" if not index else "",
            condition.type,
            Text(condition.status, style),
            Text(condition.reason, "dim"),
        )
    return table


def _events(picture: Picture, now: float) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(style="dim", no_wrap=True, width=_LABEL)
    table.add_column(no_wrap=True, justify="right", width=4)
    table.add_column(width=_WIDTH - _LABEL - 6)
    for index, event in enumerate(picture.events):
        # The operator's messages begin with the phase, which may be the reason's word.
        said = event.message.removeprefix(f"{event.reason}: ")
        words = textwrap.shorten(printable(f"{event.reason}: {said}"), 120, placeholder=" …")
        text = Text(words, "yellow" if event.warning else "")
        table.add_row("events" if not index else "", short_age(now - event.time), text)
    return table


def table_of(pictures: Sequence[Picture], now: float, *, namespaces: bool) -> RenderableType:
    """All ModelCanaries, one line each."""
    if not pictures:
        return Text("There is no ModelCanary here; -A looks in all namespaces.")
    table = Table.grid(padding=(0, 2))
    heads = [*(["NAMESPACE"] if namespaces else []), "NAME", "PHASE", "REASON", "DELTA", "LABELLED", "WEIGHT", "AGE"]
    for head in heads:
        numeric = head in ("DELTA", "LABELLED", "WEIGHT", "AGE")
        shrinks = head in ("NAMESPACE", "NAME", "REASON")
        table.add_column(
            no_wrap=True, overflow="ellipsis", justify="right" if numeric else "left", ratio=1 if shrinks else None
        )
    table.add_row(*(Text(head, "dim") for head in heads))
    for picture in pictures:
        status, found = picture.status, picture.evidence
        delta = _number(found.get("delta"))
        phase = Text(str(status.phase), _PHASES.get(status.phase, "yellow"))
        if picture.deleting and status.phase is not Phase.DELETING:
            phase.append(", deleted", "yellow")
        cells: list[str | Text] = [
            picture.name,
            phase,
            Text(status.reason, "red" if status.stalled else ""),
            "" if delta is None else f"{delta:+.4f}",
            f"{found['labelled']:,}" if "labelled" in found else "",
            f"{picture.weight}%" if picture.weight else "",
            short_age(now - picture.since),
        ]
        table.add_row(*([picture.namespace] if namespaces else []), *cells)
    return table
