"""A mapping of a specification, read field by field, so that every error names the path of its field.

Called by the `parse` modules. A section says which fields it knows before any is read: a misspelt field is
then an error of its own, with the nearest known name, rather than a required field that is missing or a
default that silently holds. It must not know any field of the resource.
"""

import difflib
import math
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TypeVar

from modelcanary_gate.errors import SpecError
from modelcanary_gate.quantities import show

T = TypeVar("T")
D = TypeVar("D")
E = TypeVar("E", bound=StrEnum)

#: Reads one value; raises SpecError with the path that it is given.
Reader = Callable[[object, str], T]

_QUOTE = "put it in quotes"
_MOST_VALUES = 10_000


class Fields:
    """One mapping at `path` ("" is the whole document). A null field counts as absent, as in Kubernetes."""

    __slots__ = ("_values", "path")

    def __init__(self, value: object, path: str, known: tuple[str, ...]) -> None:
        self.path = path
        self._values: dict[str, object] = {}
        if value is None:
            return
        if not isinstance(value, Mapping):
            raise SpecError(path or "document", f"{show(value)} is not a mapping", f"write fields: {', '.join(known)}")
        for key, item in value.items():
            name = key if isinstance(key, str) else show(key)
            if name not in known:
                raise _unknown_field(self.at(show(name)[1:-1]), name, known)
            if item is not None:
                self._values[name] = item

    def at(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def given(self) -> tuple[str, ...]:
        """The names of the fields that the user wrote."""
        return tuple(self._values)

    def read(self, name: str, reader: Reader[T], default: D) -> T | D:
        return reader(self._values[name], self.at(name)) if name in self._values else default

    def require(self, name: str, reader: Reader[T], remedy: str) -> T:
        if name not in self._values:
            raise SpecError(self.at(name), "is missing", remedy)
        return reader(self._values[name], self.at(name))

    def section(self, name: str, known: tuple[str, ...]) -> "Fields":
        """A mapping within this one; empty when it is absent."""
        return Fields(self._values.get(name), self.at(name), known)

    def error(self, name: str, problem: str, remedy: str) -> SpecError:
        return SpecError(self.at(name), problem, remedy)


def _unknown_field(field: str, name: str, known: tuple[str, ...]) -> SpecError:
    lowered = {candidate.lower(): candidate for candidate in known}
    nearest = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.7)
    remedy = f'did you mean "{lowered[nearest[0]]}"?' if nearest else f"known here: {', '.join(known)}"
    return SpecError(field, "unknown field", remedy)


def text(value: object, field: str, at_most: int = 253) -> str:
    """A string that is not empty, of at most as many characters as a name in Kubernetes has."""
    if not isinstance(value, str):
        raise SpecError(field, f"{show(value)} is not text", _QUOTE)
    if not value.strip():
        raise SpecError(field, "is empty", "write a name, or leave the field out")
    if len(value) > at_most:
        raise SpecError(field, f"has {len(value)} characters", f"write at most {at_most}")
    return value


def text_up_to(at_most: int) -> Reader[str]:
    def read(value: object, field: str) -> str:
        return text(value, field, at_most)

    return read


def flag(value: object, field: str) -> bool:
    if not isinstance(value, bool):
        raise SpecError(field, f"{show(value)} is neither true nor false", "write true or false")
    return value


def choice(vocabulary: type[E]) -> Reader[E]:
    def read(value: object, field: str) -> E:
        return vocabulary(one_of(tuple(vocabulary))(value, field))

    return read


def one_of(words: tuple[str, ...]) -> Reader[str]:
    def read(value: object, field: str) -> str:
        if isinstance(value, str) and value in words:
            return str(value)
        remedy = f"write one of {', '.join(words)}"
        nearest = difflib.get_close_matches(value, words, n=1) if isinstance(value, str) else []
        if nearest:
            remedy += f'; did you mean "{nearest[0]}"?'
        raise SpecError(field, f"{show(value)} is not a value of this field", remedy)

    return read


def list_of(reader: Reader[T], remedy: str, *, at_most: int) -> Reader[tuple[T, ...]]:
    """Each item is read with the path `field[i]`."""

    def read(value: object, field: str) -> tuple[T, ...]:
        if not isinstance(value, (list, tuple)):
            raise SpecError(field, f"{show(value)} is not a list", remedy)
        if len(value) > at_most:
            raise SpecError(field, f"has {len(value)} items", f"list at most {at_most}")
        return tuple(reader(item, f"{field}[{index}]") for index, item in enumerate(value))

    return read


def mapping(value: object, field: str, at_most: int = 1000) -> dict[str, object]:
    """A mapping of names to anything."""
    if not isinstance(value, Mapping):
        raise SpecError(field, f"{show(value)} is not a mapping", "write a mapping of names to values")
    for key in value:
        if not isinstance(key, str):
            raise SpecError(field, f"the name {show(key)} is not text", _QUOTE)
    if len(value) > at_most:
        raise SpecError(field, f"has {len(value)} names", f"write at most {at_most}")
    return dict(value)


def entry(field: str, name: str) -> str:
    """The path of what a mapping holds under a name of the user's: one line, whatever the name is."""
    return f"{field}.{show(name)[1:-1]}"


def json_mapping(value: object, field: str) -> dict[str, object]:
    """A mapping that can be sent as JSON: YAML has dates, names that are no text, and lists in themselves."""
    result = mapping(value, field, 100)
    inside: list[object] = [result]
    seen = 0
    while inside:
        seen += 1
        if seen > _MOST_VALUES:
            raise SpecError(field, f"holds more than {_MOST_VALUES} values", "write less")
        item = inside.pop()
        if isinstance(item, Mapping):
            inside += mapping(item, field).values()
        elif isinstance(item, list):
            inside += item
        elif not (item is None or isinstance(item, (int, str)) or _is_finite(item)):
            raise SpecError(field, f"{show(item)} cannot be sent as JSON", _QUOTE)
    return result


def _is_finite(value: object) -> bool:
    return isinstance(value, float) and math.isfinite(value)


def unique(values: tuple[str, ...], field: str, what: str) -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise SpecError(field, f"{what} {show(value)} is there twice", "name each once")
        seen.add(value)


def between(
    reader: Reader[float], low: float, high: float, *, open_low: bool = False, open_high: bool = False
) -> Reader[float]:
    """A reader that refuses numbers outside of the interval."""
    interval = f"{'above' if open_low else 'at least'} {low:g} and {'below' if open_high else 'at most'} {high:g}"

    def read(value: object, field: str) -> float:
        number = reader(value, field)
        if number < low or number > high or (open_low and number == low) or (open_high and number == high):
            raise SpecError(field, f"{show(value)} is out of range", f"write a number {interval}")
        return number

    return read


def positive(reader: Reader[float], remedy: str) -> Reader[float]:
    def read(value: object, field: str) -> float:
        number = reader(value, field)
        if number <= 0.0:
            raise SpecError(field, f"{show(value)} is not above 0", remedy)
        return number

    return read
