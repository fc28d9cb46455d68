"""What text is read as, and the words of what is refused."""

import math
import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelcanary_gate import quantities
from modelcanary_gate.errors import SpecError
from modelcanary_gate.spec import Limit, LimitKind, Margin

ABSOLUTE, OVER, TIMES = LimitKind.ABSOLUTE, LimitKind.OVER_BASELINE, LimitKind.TIMES_BASELINE


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *(("30s", 30.0), ("10m", 600.0), ("24h", 86400.0), ("7d", 604800.0), ("1h30m", 5400.0)),
        *(("500ms", 0.5), ("0s", 0.0), ("1.5h", 5400.0), (" 2s ", 2.0), ("1m500ms", 60.5)),
    ],
)
def test_durations(value: str, expected: float) -> None:
    assert quantities.duration(value, "f") == pytest.approx(expected)


@pytest.mark.parametrize(
    ("value", "problem", "remedy"),
    [
        ("30", '"30" has no unit', 'seconds end in "s"'),
        (30, "30 has no unit", 'seconds end in "s"'),
        (0.5, "0.5 has no unit", 'seconds end in "s"'),
        (10**400, "has no unit", 'write a duration such as "30s"'),
        ("-5s", '"-5s" is not a duration', 'write a duration such as "30s"'),
        ("10 min", '"10 min" is not a duration', '"10m"'),
        ("5m oops", '"5m oops" is not a duration', '"10m"'),
        ("", '"" is not a duration', '"10m"'),
        ("٣s", "is not a duration", '"10m"'),
        (True, "true is not a duration", '"10m"'),
        (None, "null is not a duration", '"10m"'),
        ("9" * 400 + "s", "is too long", "at most 32 characters"),
    ],
)
def test_what_is_no_duration(value: object, problem: str, remedy: str) -> None:
    with pytest.raises(SpecError) as caught:
        quantities.duration(value, "spec.x")
    assert caught.value.field == "spec.x"
    assert problem in caught.value.problem
    assert remedy in caught.value.remedy


@pytest.mark.parametrize(
    "read",
    [
        *(quantities.decimal, quantities.duration, quantities.share, quantities.percent, quantities.size),
        *(quantities.margin, quantities.share_limit, quantities.latency_limit, quantities.metric_limit),
    ],
)
def test_whatever_is_longer_than_32_characters_is_refused(read: Callable[[object, str], object]) -> None:
    unit = {quantities.duration: "s", quantities.latency_limit: "s"}.get(read, "")
    with pytest.raises(SpecError, match="is too long; write it in at most 32 characters"):
        read(f"{'0' * 30}.01{unit}", "f")
    if read is not quantities.size:
        read(f"{'0' * 28}.01{unit}", "f")


@given(st.integers(0, 400), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
def test_the_parts_of_a_duration_add_up(d: int, h: int, m: int, s: int, ms: int) -> None:
    seconds = quantities.duration(f"{d}d{h}h{m}m{s}s{ms}ms", "f")
    assert seconds == pytest.approx(d * 86400 + h * 3600 + m * 60 + s + ms / 1000)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("1e-4", 1e-4), (1, 1.0), (0.25, 0.25), ("-2", -2.0), (".5", 0.5), ("5.", 5.0), ("+3", 3.0)],
)
def test_decimals(value: object, expected: float) -> None:
    assert quantities.decimal(value, "f") == expected


@pytest.mark.parametrize(
    "value", ["", "nan", "inf", "1e999", "1_000", "0x10", "٣", "1 2", True, None, [], math.nan, -math.inf, 10**400]
)
def test_what_is_no_decimal(value: object) -> None:
    with pytest.raises(SpecError, match="is not a number; write a number such as"):
        quantities.decimal(value, "f")


@pytest.mark.parametrize(("value", "expected"), [("5%", 0.05), ("0.05", 0.05), (1, 1.0), ("100 %", 1.0)])
def test_shares(value: object, expected: float) -> None:
    assert quantities.share(value, "f") == pytest.approx(expected)


@pytest.mark.parametrize(("value", "expected"), [("100", 1.0), (5, 0.05), ("2.5%", 0.025), (0, 0.0)])
def test_percentages(value: object, expected: float) -> None:
    assert quantities.percent(value, "f") == pytest.approx(expected)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *((1, 1), (1048576, 1 << 20), ("1048576", 1 << 20), ("1Mi", 1 << 20), ("512Ki", 512 << 10)),
        *(("1M", 10**6), ("2k", 2000), ("2K", 2000), ("1.5Mi", 3 << 19), ("1Gi", 1 << 30)),
    ],
)
def test_sizes(value: object, expected: int) -> None:
    assert quantities.size(value, "f") == expected


@pytest.mark.parametrize("value", ["1MB", "-1", -1, 0, "0", 1.5, True, "", "Mi", "9" * 30, 1 << 41, None])
def test_what_is_no_size(value: object) -> None:
    with pytest.raises(SpecError, match='write a size in bytes such as 1048576, "512Ki" or "1Mi"'):
        quantities.size(value, "f")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2%", Margin(relative=0.02)),
        ("0.01", Margin(absolute=0.01)),
        (0.01, Margin(absolute=0.01)),
        (0, Margin()),
        ("0%", Margin()),
        ("2% + 0.01", Margin(relative=0.02, absolute=0.01)),
        ("0.01+2%", Margin(relative=0.02, absolute=0.01)),
    ],
)
def test_margins(value: object, expected: Margin) -> None:
    assert quantities.margin(value, "f") == expected


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("two", '"two" is not a margin'),
        ("2% + 3%", '"2% + 3%" is not a margin'),
        ("0.1 + 0.2", '"0.1 + 0.2" is not a margin'),
        ("2% + 0.1 + 0.1", "is not a margin"),
        ("+2%", '"+2%" is not a margin'),
        ("-2%", '"-2%" is negative'),
        ("150%", '"150%" is more than the baseline\'s loss itself'),
        (2, "2 is 2 nats, more than any use"),
        (True, "true is not a margin"),
        ([], "[] is not a margin"),
    ],
)
def test_what_is_no_margin(value: object, problem: str) -> None:
    with pytest.raises(SpecError) as caught:
        quantities.margin(value, "f")
    assert problem in caught.value.problem
    assert 'write "2%" for two percent of the baseline\'s loss' in caught.value.remedy


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("+0.5%", Limit(OVER, 0.005)),
        ("+0.02", Limit(OVER, 0.02)),
        ("x1.2", Limit(TIMES, 1.2)),
        ("×2", Limit(TIMES, 2.0)),
        ("0", Limit(ABSOLUTE, 0.0)),
        (0, Limit(ABSOLUTE, 0.0)),
        ("1%", Limit(ABSOLUTE, 0.01)),
    ],
)
def test_limits_on_shares(value: object, expected: Limit) -> None:
    assert quantities.share_limit(value, "f") == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [("300ms", Limit(ABSOLUTE, 0.3)), ("+20ms", Limit(OVER, 0.02)), ("x1.2", Limit(TIMES, 1.2))],
)
def test_limits_on_latencies(value: object, expected: Limit) -> None:
    assert quantities.latency_limit(value, "f") == expected


@pytest.mark.parametrize(
    ("value", "expected"), [(100, Limit(ABSOLUTE, 100.0)), ("+5", Limit(OVER, 5.0)), ("x0.95", Limit(TIMES, 0.95))]
)
def test_limits_on_metrics(value: object, expected: Limit) -> None:
    assert quantities.metric_limit(value, "f") == expected


@pytest.mark.parametrize(
    ("read", "value", "problem"),
    [
        (quantities.share_limit, "1.5x", '"1.5x" is not a limit'),
        (quantities.share_limit, "x0", '"x0" is out of range'),
        (quantities.share_limit, "-1%", '"-1%" is out of range'),
        (quantities.share_limit, "+150%", '"+150%" is more than everything'),
        (quantities.share_limit, 5, "5 is more than everything"),
        (quantities.share_limit, "x1.2%", '"x1.2%" is not a limit'),
        (quantities.share_limit, "", '"" is not a limit'),
        (quantities.latency_limit, "0.3", '"0.3" is not a limit'),
        (quantities.latency_limit, "+5%", '"+5%" is not a limit'),
        (quantities.metric_limit, "high", '"high" is not a limit'),
        (quantities.metric_limit, "-1", '"-1" is out of range'),
    ],
)
def test_what_is_no_limit(read: object, value: object, problem: str) -> None:
    with pytest.raises(SpecError, match=re.escape(problem)) as caught:
        read(value, "f")  # type: ignore[operator]
    assert 'for a limit as such, "+' in caught.value.remedy


def test_values_are_shown_on_one_line_and_short() -> None:
    assert quantities.show("a\nb") == '"a\\nb"'
    assert quantities.show("é") == '"é"'
    assert quantities.show([1] * 100) == "[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,…]"
    assert quantities.show(10**5000) == "a huge int"
    assert len(quantities.show("x" * 1000)) == 59
