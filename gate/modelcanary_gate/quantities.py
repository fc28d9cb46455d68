"""Reads what a specification writes as text: durations, shares, margins, sizes, limits.

Called by `parse` only, each with the path of the field, so that an error names the field, the value and what
would be right. Kubernetes resources have no floats, so fractions come as strings; files for the command line
may have floats, and integers mean what they say everywhere. It must not know which field has which meaning.
"""

import math
import re

from modelcanary_gate.errors import SpecError
from modelcanary_gate.spec import Limit, LimitKind, Margin

_NUMBER = r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_DECIMAL = re.compile(rf"[+-]?{_NUMBER}")
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)(Ki|Mi|Gi|k|K|M|G)?")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}

_MOST_CHARACTERS = 32  # the resource's definition has the same limit

_DURATION_REMEDY = 'write a duration such as "30s", "10m", "1h30m", "7d" or "500ms"'
_MARGIN_REMEDY = 'write "2%" for two percent of the baseline\'s loss, "0.01" for nats, or "2% + 0.01" for both together'


def show(value: object) -> str:
    """A value as an error message shows it: short, and told apart from the text around it."""
    if isinstance(value, str):
        text = f'"{repr(value)[1:-1]}"'  # one line, whatever it holds
    elif value is None or isinstance(value, bool):
        text = {None: "null", True: "true", False: "false"}[value]
    else:
        try:
            text = repr(value)
        except (ValueError, RecursionError):  # an integer of thousands of digits, a bottomless list
            text = f"a huge {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "…" + text[-1]


def decimal(value: object, field: str, remedy: str = 'write a number such as "0.5"') -> float:
    """A finite number from an integer, a float or a string."""
    _check_length(value, field)
    number = math.nan
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
    elif isinstance(value, str) and _DECIMAL.fullmatch(value.strip()):
        number = float(value)
    if not math.isfinite(number):
        raise SpecError(field, f"{show(value)} is not a number", remedy)
    return number


def _check_length(value: object, field: str) -> None:
    if isinstance(value, str) and len(value) > _MOST_CHARACTERS:
        raise SpecError(field, f"{show(value)} is too long", f"write it in at most {_MOST_CHARACTERS} characters")


def whole(value: object, field: str, *, at_least: int, at_most: int | None = None) -> int:
    """An integer, from a string of digits too."""
    upper = "" if at_most is None else f" and at most {at_most}"
    remedy = f"write a whole number of at least {at_least}{upper}"
    number = decimal(value, field, remedy)
    if number != int(number):
        raise SpecError(field, f"{show(value)} is not a whole number", remedy)
    if number < at_least or (at_most is not None and number > at_most):
        raise SpecError(field, f"{show(value)} is out of range", remedy)
    return int(number)


def duration(value: object, field: str) -> float:
    """Seconds, from a string with units."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        raise SpecError(field, f"{show(value)} has no unit", f'{_DURATION_REMEDY}; seconds end in "s"')
    if not isinstance(value, str):
        raise SpecError(field, f"{show(value)} is not a duration", _DURATION_REMEDY)
    _check_length(value, field)
    text = value.strip()
    if _DECIMAL.fullmatch(text):
        raise SpecError(field, f"{show(value)} has no unit", f'{_DURATION_REMEDY}; seconds end in "s"')
    parts = _DURATION_PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise SpecError(field, f"{show(value)} is not a duration", _DURATION_REMEDY)
    seconds: float = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if not math.isfinite(seconds):
        raise SpecError(field, f"{show(value)} is too long", _DURATION_REMEDY)
    return seconds


def share(value: object, field: str, remedy: str = 'write a share such as "0.05" or "5%"') -> float:
    """A number as it is, or a percentage over 100: "5%" is "0.05". The range is the caller's to check."""
    _check_length(value, field)
    if isinstance(value, str) and value.strip().endswith("%"):
        try:
            return decimal(value.strip()[:-1].strip(), field, remedy) / 100.0
        except SpecError:
            raise SpecError(field, f"{show(value)} is not a percentage", remedy) from None
    return decimal(value, field, remedy)


def percent(value: object, field: str) -> float:
    """A share from a number of percent, with or without the sign: "100", 100 and "100%" are 1.0."""
    remedy = "write a percentage from 0 to 100"
    _check_length(value, field)
    text = value.strip().removesuffix("%").strip() if isinstance(value, str) else value
    try:
        number = decimal(text, field, remedy)
    except SpecError:
        raise SpecError(field, f"{show(value)} is not a percentage", remedy) from None
    if not 0.0 <= number <= 100.0:
        raise SpecError(field, f"{show(value)} is out of range", remedy)
    return number / 100.0


def size(value: object, field: str) -> int:
    """Bytes, from an integer or a string with or without a unit."""
    remedy = 'write a size in bytes such as 1048576, "512Ki" or "1Mi"'
    _check_length(value, field)
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    else:
        match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
        if match is None:
            raise SpecError(field, f"{show(value)} is not a size", remedy)
        amount = float(match[1]) * _BYTES[match[2] or ""]
        number = int(amount) if math.isfinite(amount) else 0
    if not 1 <= number <= 1 << 40:
        raise SpecError(field, f"{show(value)} is out of range, 1 byte to 1024Gi", remedy)
    return number


def margin(value: object, field: str) -> Margin:
    """Relative to the baseline's loss ("2%"), in nats ("0.01"), or their sum ("2% + 0.01")."""
    relative = absolute = 0.0
    _check_length(value, field)
    terms = value.split("+") if isinstance(value, str) else [value]
    if len(terms) > 2 or (len(terms) == 2 and sum("%" in str(term) for term in terms) != 1):
        raise SpecError(field, f"{show(value)} is not a margin", _MARGIN_REMEDY)
    for term in terms:
        try:
            number = share(term, field)
        except SpecError:
            raise SpecError(field, f"{show(value)} is not a margin", _MARGIN_REMEDY) from None
        if isinstance(term, str) and "%" in term:
            relative = number
        else:
            absolute = number
    if relative < 0.0 or absolute < 0.0:
        raise SpecError(field, f"{show(value)} is negative", _MARGIN_REMEDY)
    if relative > 1.0:
        raise SpecError(field, f"{show(value)} is more than the baseline's loss itself", _MARGIN_REMEDY)
    if absolute >= 1.0:  # more than a coin costs (0.69): 2 where 2% was meant
        raise SpecError(field, f"{show(value)} is {absolute:g} nats, more than any use", _MARGIN_REMEDY)
    return Margin(relative=relative, absolute=absolute)


def share_limit(value: object, field: str) -> Limit:
    """A limit on a share: "1%", "+0.5%" over the baseline's, "x1.2" times the baseline's."""
    remedy = 'write "1%" for a limit as such, "+0.5%" for that much over the baseline, "x1.2" for times it'
    limit = _limit(value, field, remedy, seconds=False)
    if limit.kind is not LimitKind.TIMES_BASELINE and limit.value > 1.0:
        raise SpecError(field, f"{show(value)} is more than everything", remedy)
    return limit


def latency_limit(value: object, field: str) -> Limit:
    """A limit on a latency, in seconds: "300ms", "+20ms" over the baseline's, "x1.2" times the baseline's."""
    remedy = 'write "300ms" for a limit as such, "+20ms" for that much over the baseline, "x1.2" for times it'
    return _limit(value, field, remedy, seconds=True)


def metric_limit(value: object, field: str) -> Limit:
    """A limit on a metric of the user's, in whatever unit it has."""
    remedy = 'write "100" for a limit as such, "+5" for that much over the baseline, "x0.95" for times it'
    return _limit(value, field, remedy, seconds=False)


def _limit(value: object, field: str, remedy: str, *, seconds: bool) -> Limit:
    _check_length(value, field)
    text = value.strip() if isinstance(value, str) else value
    kind, amount = LimitKind.ABSOLUTE, text
    if isinstance(text, str) and text[:1] in ("+", "x", "×"):
        kind = LimitKind.OVER_BASELINE if text[0] == "+" else LimitKind.TIMES_BASELINE
        amount = text[1:].strip()
    try:
        if kind is LimitKind.TIMES_BASELINE:
            number = decimal(amount, field)
        elif seconds:
            number = duration(amount, field)
        else:
            number = share(amount, field)
    except SpecError:
        raise SpecError(field, f"{show(value)} is not a limit", remedy) from None
    if number < 0.0 or (kind is LimitKind.TIMES_BASELINE and number == 0.0):
        raise SpecError(field, f"{show(value)} is out of range", remedy)
    return Limit(kind, number)
