"""Reads a specification from a YAML (or JSON) file.

Called by every subcommand that takes `--spec`. Knows files and YAML; what the fields mean is the gate's.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from modelcanary_cli.errors import InputError
from modelcanary_gate.errors import SpecError
from modelcanary_gate.parse import parse_resource
from modelcanary_gate.spec import Spec


@dataclass(frozen=True, slots=True)
class LoadedSpec:
    """A specification, and how its user wrote it."""

    source: Path
    namespace: str
    name: str
    spec: Spec
    written: dict[str, object]  # the resource's `spec`


def load_spec(path: Path, *, require_classes: bool = True) -> LoadedSpec:
    """Reads and checks one ModelCanary resource. Raises InputError naming the line or the field."""
    document = _document(path)
    try:
        namespace, name, spec = parse_resource(document, require_target=False, require_classes=require_classes)
    except SpecError as error:
        raise InputError(path, f"{error.field}: {error.problem}", error.remedy) from error
    written = document["spec"]
    return LoadedSpec(path, namespace, name, spec, written if isinstance(written, dict) else {})


def _document(path: Path) -> dict[str, object]:
    try:
        document = yaml.load(path.read_bytes(), Loader=_StrictLoader)
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})", "give the path of a YAML file") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise InputError(path, f"{place}{error.problem or error.context}", "correct the YAML") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # ValueError: what looks like a date and is none
        raise InputError(
            path, f"is not YAML: {' '.join(str(error).split())}", "give one ModelCanary resource as YAML"
        ) from error
    if not isinstance(document, dict):
        raise InputError(path, "holds no mapping", "give one ModelCanary resource as YAML")
    return document


#: `<<: *anchor`, whose keys give way to those that are written beside it.
_MERGE = "tag:yaml.org,2002:merge"


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key that comes twice: YAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            if key_node.tag == _MERGE:
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(None, None, "a key is a list or mapping", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} comes twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)
