"""Small pure functions that write SVG and HTML as text: elements, scales and axes.

Called by `charts` and `page`. All text goes through `element` and is escaped there; knows no run and no verdict.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape

#: Room for the numbers beside and below a plot, in units of its viewBox.
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 28, 34


class Markup(str):
    """Text that is markup already; everything else is escaped."""

    __slots__ = ()


Content = str | Markup | None
Attributes = str | float | int | None


def element(name: str, *content: Content, **attributes: Attributes) -> Markup:
    """`<name …>…</name>`. `class_` is `class`; an underscore is a hyphen; None leaves an attribute out."""
    parts = [name]
    for key, value in attributes.items():
        if value is None:
            continue
        shown = f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
        parts.append(f'{key.rstrip("_").replace("_", "-")}="{escape(shown)}"')
    return Markup(f"<{' '.join(parts)}>{join(*content)}</{name}>")


def join(*content: Content) -> Markup:
    return Markup("".join(part if isinstance(part, Markup) else escape(part) for part in content if part))


@dataclass(frozen=True, slots=True)
class Frame:
    """The size of a drawing, in units of its viewBox."""

    width: float
    height: float

    @property
    def right(self) -> float:
        return self.width - RIGHT

    @property
    def bottom(self) -> float:
        return self.height - BOTTOM


@dataclass(frozen=True, slots=True)
class Scale:
    """From a value to a coordinate, linearly. Values outside are placed just outside of the plot."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return self.start + min(max(share, -0.2), 1.2) * (self.end - self.start)


def nice_ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers within [low, high], some `about` of them."""
    if not high > low:
        return [low]
    rough = (high - low) / max(about, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(size * power for size in (1, 2, 5, 10) if size * power >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def number(value: float) -> str:
    """A tick's number: short, without an exponent where it reads well."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 10_000:
        return f"{value / 1000:,.6g}k" if size < 1e6 else f"{value / 1e6:,.6g}M"
    return f"{value:.6g}" if size >= 1e-4 else f"{value:.0e}"


def clock(value: float, span: float) -> str:
    """A time, in UTC, as precisely as the span of the axis asks for."""
    pattern = "%m-%d" if span > 4 * 86400 else "%d %H:%M" if span > 86400 else "%H:%M" if span > 600 else "%H:%M:%S"
    return datetime.fromtimestamp(value, UTC).strftime(pattern)


def time_ticks(low: float, high: float, about: int) -> list[float]:
    steps = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 21600, 43200, 86400)
    rough = (high - low) / max(about, 1)
    step = next((size for size in steps if size >= rough), math.ceil(rough / 86400) * 86400)
    return [float(i * step) for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def x_axis(frame: Frame, scale: Scale, ticks: Sequence[float], shown: Callable[[float], str], title: str) -> Markup:
    parts = []
    for tick in ticks:
        x = scale(tick)
        parts.append(element("line", class_="grid", x1=x, x2=x, y1=TOP, y2=frame.bottom))
        # the outermost labels stay within the drawing
        anchor = "start" if x < LEFT + 15 else "end" if x > frame.right - 18 else "middle"
        parts.append(element("text", shown(tick), x=x, y=frame.bottom + 14, text_anchor=anchor))
    middle = (LEFT + frame.right) / 2
    parts.append(element("text", title, x=middle, y=frame.height - 4, text_anchor="middle", class_="title"))
    return join(*parts)


def y_axis(frame: Frame, scale: Scale, ticks: Sequence[float], shown: Callable[[float], str], title: str) -> Markup:
    parts = [element("text", title, x=4, y=13, text_anchor="start", class_="title")]
    for tick in ticks:
        y = scale(tick)
        parts.append(element("line", class_="grid", x1=LEFT, x2=frame.right, y1=y, y2=y))
        parts.append(element("text", shown(tick), x=LEFT - 6, y=y + 4, text_anchor="end"))
    return join(*parts)


def path(points: Sequence[tuple[float, float]], **attributes: Attributes) -> Markup:
    """A line through the points."""
    steps = " ".join(f"{'M' if i == 0 else 'L'}{x:.1f} {y:.1f}" for i, (x, y) in enumerate(points))
    return element("path", d=steps, **attributes)


def drawing(frame: Frame, described: str, *content: Content, class_: str) -> Markup:
    """A fluid SVG with a description for those who cannot see it; `content` is clipped by nobody."""
    view = f"0 0 {frame.width:g} {frame.height:g}"
    return element("svg", element("title", described), *content, viewBox=view, role="img", class_=class_)


def clipped(frame: Frame, identifier: str, *content: Content) -> Markup:
    """Content that does not leave the plot; the identifier must be unique on the page."""
    area = element("rect", x=LEFT, y=TOP, width=frame.right - LEFT, height=frame.bottom - TOP)
    mask = element("clipPath", area, id=identifier)
    return join(element("defs", mask), element("g", *content, clip_path=f"url(#{identifier})"))
