"""Pod templates: their hash, the port that a Service finds in them, and what of them cannot be run twice.

Pure; called by `facts` and `manifests` with JSON as the API server has it.
"""

import copy
import hashlib
import json
import re
from dataclasses import dataclass
from decimal import Decimal

from modelcanary_operator.api import Object

_SCALES = {
    **{"m": Decimal("0.001"), "": Decimal(1)},
    **{letter: Decimal(1000) ** power for power, letter in enumerate("kMGTPE", 1)},
    **{f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", 1)},
}
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]*)?)(m|[kMGTPE]|[KMGTPE]i|)")


@dataclass(frozen=True, slots=True)
class ModelPort:
    """Where the model listens in its pod: the container's place among `containers`, and the number."""

    container: int
    number: int


def template_hash(template: Object) -> str:
    """Of what the user wrote, ten hexadecimal digits; the same for the same template, however it is ordered."""
    cleaned = copy.deepcopy(template)
    metadata = cleaned.get("metadata") or {}
    metadata.pop("creationTimestamp", None)
    cleaned["metadata"] = metadata
    text = json.dumps(cleaned, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def spec_of(template: Object) -> Object:
    found: Object = template.get("spec") or {}
    return found


def containers(template: Object) -> list[Object]:
    return spec_of(template).get("containers") or []


def ports(container: Object) -> list[Object]:
    return container.get("ports") or []


def find_port(template: Object, target_port: str | int) -> ModelPort | None:
    """What a Service's target port means in this template. A number need not be declared by any container."""
    for index, container in enumerate(containers(template)):
        for port in ports(container):
            wanted = port.get("name") if isinstance(target_port, str) else port.get("containerPort")
            if wanted == target_port:
                return ModelPort(index, int(port["containerPort"]))
    if isinstance(target_port, int) and containers(template):
        return ModelPort(0, target_port)
    return None


def declared_ports(template: Object) -> tuple[int, ...]:
    every = [*containers(template), *(spec_of(template).get("initContainers") or [])]
    return tuple(int(port["containerPort"]) for container in every for port in ports(container))


def host_ports(template: Object) -> tuple[int, ...]:
    found = [port.get("hostPort") for container in containers(template) for port in ports(container)]
    return tuple(int(port) for port in found if port)


def claims(template: Object) -> tuple[str, ...]:
    """The names of the PersistentVolumeClaims that its pods mount."""
    volumes = spec_of(template).get("volumes") or []
    return tuple(
        volume["persistentVolumeClaim"]["claimName"] for volume in volumes if volume.get("persistentVolumeClaim")
    )


def labels(template: Object) -> dict[str, str]:
    return dict((template.get("metadata") or {}).get("labels") or {})


def selects(selector: dict[str, str], found: dict[str, str]) -> bool:
    """Whether a Service's selector finds pods with these labels; an empty one finds none."""
    return bool(selector) and all(found.get(key) == value for key, value in selector.items())


def contains(live: object, wanted: object) -> bool:
    """Whether the live object says all that is wanted; what the API server added by default is no difference."""
    if isinstance(wanted, dict):
        if not isinstance(live, dict):
            return not wanted and live is None
        return all(contains(live.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list):
        if not isinstance(live, list):
            return not wanted and live is None
        return len(live) == len(wanted) and all(contains(a, b) for a, b in zip(live, wanted, strict=True))
    return live == wanted or _same_quantity(live, wanted)


def _same_quantity(live: object, wanted: object) -> bool:
    """The API server writes quantities its own way: 0.5 is 500m to it."""
    if not (isinstance(live, str) and isinstance(wanted, str)):
        return False
    numbers = [_quantity(live), _quantity(wanted)]
    return None not in numbers and numbers[0] == numbers[1]


def _quantity(text: str) -> Decimal | None:
    match = _QUANTITY.fullmatch(text)
    return Decimal(match[1]) * _SCALES[match[2]] if match else None
