"""The charts of a report, as SVG: the delta, the evidence, the calibration.

Called by `page` with parts of a record; each chart is drawn twice, wide for screens and paper, narrow for phones.
"""

import math
from collections.abc import Callable, Sequence

from modelcanary_cli.svg import (
    BOTTOM,
    LEFT,
    TOP,
    Frame,
    Markup,
    Scale,
    clipped,
    clock,
    drawing,
    element,
    join,
    nice_ticks,
    number,
    path,
    time_ticks,
    x_axis,
    y_axis,
)
from modelcanary_gate.record import Calibration, CalibrationBin, Look, Thresholds

FRAMES = {"wide": Frame(760, 300), "narrow": Frame(360, 260)}
SQUARES = {"wide": Frame(420, 380), "narrow": Frame(340, 320)}
#: More points than this cannot be told apart.
_POINTS = 500
#: Evidence below this is drawn at the edge: wealth that is lost says no more.
_LEAST, _MOST = 1e-3, 1e6


def delta_chart(looks: Sequence[Look], unit: str) -> Markup:
    """The delta with its bounds, zero, and the margin that a promotion allows."""
    known = [look for look in looks if look.delta is not None]
    return _both(FRAMES, lambda frame, size: _delta(known, unit, frame, size)) if len(known) > 1 else Markup()


def evidence_chart(looks: Sequence[Look], thresholds: Thresholds) -> Markup:
    """Both evidences on a logarithmic scale, against the factors at which they decide."""
    known = [look for look in looks if look.rollbackEvidence is not None and look.promotionEvidence is not None]
    return _both(FRAMES, lambda frame, size: _evidence(known, thresholds, frame, size)) if len(known) > 1 else Markup()


def calibration_chart(calibration: Calibration) -> Markup:
    """How often predictions of a given probability are right; on the diagonal, as often as they say."""
    return _both(SQUARES, lambda frame, size: _calibration(calibration, frame, size))


def _both(frames: dict[str, Frame], draw: Callable[[Frame, str], Markup]) -> Markup:
    return join(*(draw(frame, size) for size, frame in frames.items()))


def _thinned(looks: Sequence[Look]) -> list[Look]:
    stride = math.ceil(len(looks) / _POINTS)
    return [*looks[:-1:stride], looks[-1]]


def _across(looks: Sequence[Look], frame: Frame) -> tuple[Callable[[Look], float], Markup]:
    """The horizontal axis: time where every look has one, else labelled pairs."""
    about = 6 if frame.width > 500 else 3
    times = [look.time for look in looks if look.time is not None]
    if len(times) == len(looks) and times[-1] > times[0]:
        scale = Scale(times[0], times[-1], LEFT, frame.right)
        ticks = time_ticks(times[0], times[-1], about)
        span = times[-1] - times[0]
        axis = x_axis(frame, scale, ticks, lambda tick: clock(tick, span), "time, UTC")
        return lambda look: scale(look.time or 0.0), axis
    scale = Scale(looks[0].labelled, max(looks[-1].labelled, looks[0].labelled + 1), LEFT, frame.right)
    ticks = nice_ticks(scale.low, scale.high, about)
    return lambda look: scale(look.labelled), x_axis(frame, scale, ticks, number, "labelled pairs")


def _delta(known: Sequence[Look], unit: str, frame: Frame, size: str) -> Markup:
    looks = _thinned(known)
    across, axis = _across(looks, frame)
    low, high = _delta_range(looks)
    scale = Scale(low, high, frame.bottom, TOP)
    bounded = [(across(look), look.lower, look.upper) for look in looks if look.lower is not None]
    upper = [(x, scale(top)) for x, _, top in bounded if top is not None]
    lower = [(x, scale(bottom)) for x, bottom, _ in bounded if bottom is not None]
    margin = [(across(look), scale(look.margin)) for look in looks if look.margin is not None]
    return drawing(
        frame,
        "The delta with its bounds and the margin",
        axis,
        y_axis(frame, scale, nice_ticks(low, high, 5), number, f"delta, {unit}"),
        clipped(
            frame,
            f"clip-delta-{size}",
            path([*upper, *reversed(lower)], class_="band") if upper else None,
            element("line", class_="zero", x1=LEFT, x2=frame.right, y1=scale(0.0), y2=scale(0.0)),
            path(margin, class_="margin") if margin else None,
            path([(across(look), scale(look.delta or 0.0)) for look in looks], class_="delta"),
        ),
        class_=size,
    )


def _delta_range(looks: Sequence[Look]) -> tuple[float, float]:
    """What to show: the first bounds are so wide that nothing else could be seen beside them."""
    settled = [look for look in looks if look.labelled >= 0.15 * looks[-1].labelled] or list(looks)
    values = [0.0]
    for look in settled:
        values += [value for value in (look.delta, look.lower, look.upper, look.margin) if value is not None]
    low, high = min(values), max(values)
    room = (high - low or 1e-3) * 0.06
    return low - room, high + room


def _evidence(known: Sequence[Look], thresholds: Thresholds, frame: Frame, size: str) -> Markup:
    looks = _thinned(known)
    across, axis = _across(looks, frame)

    def power(value: float | None) -> float:
        return math.log10(min(max(value or 0.0, _LEAST), _MOST))

    lines = [
        ("rollback", [power(look.rollbackEvidence) for look in looks], power(thresholds.rollback)),
        ("promotion", [power(look.promotionEvidence) for look in looks], power(thresholds.promotion)),
    ]
    values = [value for _, row, threshold in lines for value in (*row, threshold)]
    low, high = math.floor(min(*values, 0.0)), math.ceil(max(values) + 0.3)
    scale = Scale(low, high, frame.bottom, TOP)
    drawn = []
    for name, row, threshold in lines:
        y = scale(threshold)
        drawn.append(element("line", class_=f"{name} threshold", x1=LEFT, x2=frame.right, y1=y, y2=y))
        points = [(across(look), scale(value)) for look, value in zip(looks, row, strict=True)]
        drawn.append(path(points, class_=name))
    return drawing(
        frame,
        "The evidence against its thresholds",
        axis,
        y_axis(frame, scale, [float(tick) for tick in range(low, high + 1)], _power_of_ten, "evidence, a factor"),
        clipped(frame, f"clip-evidence-{size}", *drawn),
        class_=size,
    )


def _power_of_ten(tick: float) -> str:
    return f"{10 ** int(tick):,}" if 0 <= tick <= 3 else f"1e{tick:.0f}" if tick > 0 else f"{10**tick:g}"


def _calibration(calibration: Calibration, frame: Frame, size: str) -> Markup:
    low = min((point.confidence for point in (*calibration.baseline, *calibration.candidate)), default=0.0)
    low = min(low, *(point.accuracy for point in (*calibration.baseline, *calibration.candidate)), 0.5)
    low = math.floor(low * 5) / 5
    across = Scale(low, 1.0, LEFT, frame.right)
    up = Scale(low, 1.0, frame.height - BOTTOM, TOP)
    ticks = nice_ticks(low, 1.0, 5)
    most = max((point.count for point in (*calibration.baseline, *calibration.candidate)), default=1)
    drawn = [path([(across(low), up(low)), (across(1.0), up(1.0))], class_="zero")]
    for role, points in (("baseline", calibration.baseline), ("candidate", calibration.candidate)):
        drawn.append(_reliability(role, points, across, up, most))
    return drawing(
        frame,
        "Calibration: accuracy against confidence, of both models",
        x_axis(frame, across, ticks, number, "probability of the predicted class"),
        y_axis(frame, up, ticks, number, "share of predictions that are right"),
        *drawn,
        class_=size,
    )


def _reliability(role: str, points: Sequence[CalibrationBin], across: Scale, up: Scale, most: int) -> Markup:
    placed = [(across(point.confidence), up(point.accuracy)) for point in points]
    dots = [
        element("circle", cx=x, cy=y, r=2.0 + 5.0 * math.sqrt(point.count / most), class_=f"{role} dot")
        for (x, y), point in zip(placed, points, strict=True)
    ]
    return join(path(placed, class_=role) if len(placed) > 1 else None, *dots)
