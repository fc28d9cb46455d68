"""The delta on a line: its bounds, zero and the margin, in as many characters as there are. Pure."""

from rich.text import Text

_WIDTH = 56


def delta_line(delta: float, lower: float | None, upper: float | None, margin: float | None) -> Text:
    """A line from the least to the greatest of them, with what is to be read off it below."""
    known = [value for value in (0.0, delta, lower, upper, margin) if value is not None]
    low, high = min(known), max(known)
    room = (high - low) * 0.06 or 1e-4
    low, high = low - room, high + room

    def at(value: float) -> int:
        return round((value - low) / (high - low) * (_WIDTH - 1))

    cells = ["·"] * _WIDTH
    if lower is not None and upper is not None:
        cells[at(lower) : at(upper) + 1] = ["━"] * (at(upper) - at(lower) + 1)
    styles = {at(0.0): ("0", "bold"), at(delta): ("◆", "bold")}
    if margin is not None:
        styles[at(margin)] = ("M", "bold yellow")
        # Where two meet, the delta is seen.
        styles[at(delta)] = ("◆", "bold")
    line = Text()
    for index, cell in enumerate(cells):
        mark, style = styles.get(index, (cell, "cyan" if cell == "━" else "dim"))
        line.append(mark, style)
    return line


def share_bar(share: float, style: str, width: int = 20) -> Text:
    """How far something is, 0 to 1."""
    full = round(min(1.0, max(0.0, share)) * width)
    return Text("█" * full, style).append("░" * (width - full), "dim")
