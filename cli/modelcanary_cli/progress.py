"""Shows a run while it goes on: a live picture in a terminal, plain lines elsewhere, JSON lines for machines.

Called by `run`. What is shown is decided in `view`; here is only how it is drawn.
"""

import json
import sys
import textwrap
from typing import Any, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from modelcanary_cli import view as shown
from modelcanary_cli.view import View
from modelcanary_gate.decision import GuardState, GuardStatus
from modelcanary_gate.explain import duration
from modelcanary_gate.vocabulary import Reason, Verdict

_STYLE = {Verdict.PROMOTE: "green", Verdict.ROLL_BACK: "red", Verdict.CONTINUE: "yellow"}
_GUARD_STYLE = {
    GuardStatus.OK: "green",
    GuardStatus.UNKNOWN: "dim",
    GuardStatus.VETO: "yellow",
    GuardStatus.FAILED: "red",
}
_BAR = 28
_WIDTH = 80
#: The same is not said again within so many seconds.
_QUIET = 60.0


class Progress(Protocol):
    """Where `run` reports to."""

    def started(self, facts: dict[str, Any]) -> None: ...
    def say(self, message: str) -> None: ...
    def warn(self, message: str) -> None: ...
    def refresh(self, view: View) -> None:
        """Newer counts; the decision is the last look's."""

    def look(self, view: View) -> None: ...
    def verdict(self, view: View, files: dict[str, str]) -> None: ...
    def close(self) -> None: ...


def progress(*, machine: bool) -> Progress:
    """For standard output as it is: the picture goes to a terminal only."""
    if machine:
        return Machine()
    return Picture(Console()) if sys.stdout.isatty() else Lines()


class Lines:
    """Plain lines: what scripts' logs and people without a terminal get."""

    def __init__(self) -> None:
        self._reason: Reason | None = None
        self._last = ""
        self._said = 0.0  # seconds into the run

    def started(self, facts: dict[str, Any]) -> None:
        self.say(_started(facts))

    def say(self, message: str) -> None:
        print(message, flush=True)  # noqa: T201 - standard output is this command's result

    def warn(self, message: str) -> None:
        self.say(f"warning: {message}")

    def refresh(self, view: View) -> None:
        pass

    def look(self, view: View) -> None:
        decision, line = view.decision, shown.line(view)
        if line == self._last and view.elapsed - self._said < _QUIET:
            return
        self._last, self._said = line, view.elapsed
        # What the message says is in the numbers of the line, but for the first time that a reason holds.
        explained = "" if decision.reason is self._reason else f": {decision.message}"
        self._reason = decision.reason
        self._wrapped(f"{duration(view.elapsed)}: {line}{explained}")

    def verdict(self, view: View, files: dict[str, str]) -> None:
        self._wrapped(f"{view.decision.verdict} ({view.decision.reason}): {view.decision.message}")
        self._wrapped(f"delta {shown.delta_text(view.decision.measures)}, {view.decision.measures.judged} pairs judged")
        for name, path in files.items():
            self.say(f"{name}: {path}")

    def close(self) -> None:
        pass

    def _wrapped(self, line: str) -> None:
        self.say(textwrap.fill(line, _WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False))


class Machine:
    """One JSON object a line, each with the key `event`: started, message, warning, look, verdict."""

    def started(self, facts: dict[str, Any]) -> None:
        self._write({"event": "started", **facts})

    def say(self, message: str) -> None:
        self._write({"event": "message", "message": message})

    def warn(self, message: str) -> None:
        self._write({"event": "warning", "message": message})

    def refresh(self, view: View) -> None:
        pass

    def look(self, view: View) -> None:
        self._write(shown.event("look", view))

    def verdict(self, view: View, files: dict[str, str]) -> None:
        self._write({**shown.event("verdict", view), **files})

    def close(self) -> None:
        pass

    def _write(self, value: dict[str, Any]) -> None:
        print(json.dumps(value), flush=True)  # noqa: T201 - standard output is this command's result


class Picture:
    """A panel that is redrawn in place; messages scroll above it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._live.start()

    def started(self, facts: dict[str, Any]) -> None:
        self.say(_started(facts))

    def say(self, message: str) -> None:
        self._console.print(Text(message))

    def warn(self, message: str) -> None:
        self._console.print(Text(f"warning: {message}", style="yellow"))

    def refresh(self, view: View) -> None:
        self._live.update(picture(view), refresh=True)

    def look(self, view: View) -> None:
        self.refresh(view)

    def verdict(self, view: View, files: dict[str, str]) -> None:
        self.close()
        self._console.print(picture(view))
        for name, path in files.items():
            self.say(f"{name}: {path}")

    def close(self) -> None:
        if self._live.is_started:
            self._live.stop()


def picture(view: View) -> Panel:
    """One look as a panel; needs 60 columns."""
    decision, measures, counts = view.decision, view.decision.measures, view.counts
    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="dim", no_wrap=True)
    rows.add_column(ratio=1)
    rows.add_row("run", f"{view.run}, {duration(view.elapsed)}")
    rows.add_row(
        "pairs",
        f"{counts.pairs:,} recorded, {counts.labelled:,} labelled, {measures.judged:,} judged",
    )
    rows.add_row("delta", shown.delta_text(measures))
    rows.add_row("roll back", _bar(measures.rollback_evidence, measures.rollback_threshold, "red"))
    rows.add_row("promote", _bar(measures.promotion_evidence, measures.promotion_threshold, "green"))
    rows.add_row("to go", shown.samples_to_go(measures))
    if measures.guards:
        rows.add_row("guards", _guards(measures.guards))
    requests = "unknown" if view.users.requests is None else f"{view.users.requests:,}"
    rows.add_row("users", f"{requests} requests at {view.listen}")
    dropped = {**counts.dropped, **view.users.dropped}
    if any(dropped.values()):
        rows.add_row("not mirrored", ", ".join(f"{reason} {n:,}" for reason, n in sorted(dropped.items()) if n))
    verdict = Text.assemble(
        (f"{decision.verdict} ({decision.reason})", f"bold {_STYLE[decision.verdict]}"), ": ", decision.message
    )
    return Panel(Group(rows, Text(), verdict), title=f"{view.candidate} against {view.baseline}", title_align="left")


def _bar(evidence: float, threshold: float, style: str) -> Table:
    share = shown.share_of_threshold(evidence, threshold)
    row = Table.grid(padding=(0, 1))
    row.add_row(
        ProgressBar(total=1.0, completed=share, width=_BAR, complete_style=style, finished_style=f"bold {style}"),
        shown.evidence_text(evidence, threshold),
    )
    return row


def _guards(guards: tuple[GuardState, ...]) -> Text:
    text = Text()
    for guard in guards:
        text.append(f"{guard.name} ").append(str(guard.status), style=_GUARD_STYLE[guard.status]).append("  ")
    return text


def _started(facts: dict[str, Any]) -> str:
    how = "resumed" if facts["resumed"] else f"new: {facts['why']}"
    return (
        f"run {facts['run']} ({how}); users: {facts['listen']}, labels: {facts['feedback']}, "
        f"state: {facts['state']}; Ctrl-C stops and keeps the state"
    )
