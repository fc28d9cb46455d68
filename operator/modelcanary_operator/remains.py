"""What can be read of a specification that is invalid by now, so that what was adopted by it can be given back. Pure.

Called by `reconcile` for a ModelCanary that is being deleted: an upgrade may read fields more strictly, and that must
keep nobody from leaving.
"""

from collections.abc import Mapping
from typing import Any

from modelcanary_gate.errors import SpecError
from modelcanary_gate.parse import parse_spec
from modelcanary_gate.spec import Spec

#: Nothing is judged any more.
_MODEL: dict[str, Any] = {"classes": ["0", "1"]}
_NEEDED = ("targetRef", "service")


def readable(written: object) -> Spec | None:
    """As much of it as can be read; None where that is not even the target and the Service."""
    if not isinstance(written, Mapping):
        return None
    document: dict[str, Any] = {"model": _MODEL, **{name: written.get(name) for name in _NEEDED}}
    try:
        found = parse_spec(document)
    except SpecError:
        return None
    for name, value in written.items():
        if name in document:
            continue
        try:
            found = parse_spec({**document, name: value})
        except SpecError:
            continue
        document[name] = value
    return found
