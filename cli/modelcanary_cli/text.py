"""How numbers and verdicts look in a terminal: 80 columns, colours only where they are wanted.

Called by `evaluate` and `replay`. rich leaves colours out when the output is not a terminal, or NO_COLOR is set.
"""

import math
import textwrap

from rich.console import Console
from rich.text import Text

from modelcanary_gate.vocabulary import Verdict

_WIDTH = 80
_STYLES = {Verdict.PROMOTE: "bold green", Verdict.ROLL_BACK: "bold red", Verdict.CONTINUE: "bold yellow"}


def console() -> Console:
    """For stdout; never wider than a page, and never wrapping words that it does not know."""
    # names of classes and files are shown as they are, even where they look like markup
    found = Console(highlight=False, markup=False, emoji=False)
    if found.width > _WIDTH or not found.is_terminal:
        found.width = _WIDTH
    return found


def wrapped(message: str) -> str:
    return textwrap.fill(message, _WIDTH - 1, break_on_hyphens=False)


def verdict(value: Verdict) -> Text:
    return Text(str(value), style=_STYLES[value])


def nats(value: float | None) -> str:
    """A signed difference of losses."""
    return "-" if value is None else f"{value:+.4f}"


def plain(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def bounds(lower: float | None, upper: float | None) -> str:
    return "-" if lower is None or upper is None else f"[{lower:+.4f}, {upper:+.4f}]"


def evidence(log_value: float) -> str:
    """A factor, from its logarithm: 1 is none."""
    power = log_value / math.log(10)
    if power >= 6:
        exponent = math.floor(power)
        return f"{10 ** (power - exponent):.1f}e{exponent}"
    value = 10**power
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value >= 0.001 else "<0.001"


def count(value: float | None) -> str:
    return "not in sight" if value is None else f"{math.ceil(value):,}"
