"""The autoscalers of a target: which one is meant, its copy for the baseline, and how one of KEDA is paused.

Pure; called by `find`, `observe` and `apply`. The API server lists objects without their kind, so each goes with it.
"""

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from modelcanary_gate.plan.observed import Autoscaler
from modelcanary_operator import facts, names
from modelcanary_operator.api import AUTOSCALERS, DEPLOYMENTS, SCALED_OBJECTS, Kind, Object
from modelcanary_operator.manifests import Owner

#: KEDA's own: with it, it removes its HorizontalPodAutoscaler and leaves the replicas as they are.
_PAUSED = "autoscaling.keda.sh/paused"
#: Wins over it, and scales.
_PAUSED_REPLICAS = "autoscaling.keda.sh/paused-replicas"
_KEDAS = "autoscaling.keda.sh/"


@dataclass(frozen=True, slots=True)
class Scaler:
    """One autoscaler, as the API server has it."""

    kind: Kind
    body: Object

    @property
    def name(self) -> str:
        return str(self.body["metadata"]["name"])

    @property
    def keda(self) -> bool:
        return self.kind is SCALED_OBJECTS


def of_target(autoscalers: Sequence[Object], scaled: Sequence[Object], target: str) -> list[Scaler]:
    """The user's, by name. What KEDA makes of a ScaledObject is not one of its own."""
    items = [Scaler(AUTOSCALERS, item) for item in autoscalers if not _maker(item)]
    items += [Scaler(SCALED_OBJECTS, item) for item in scaled]
    return sorted((item for item in items if _scales(item.body, target)), key=lambda item: item.name)


def chosen(items: Sequence[Scaler], wanted: str | None) -> Scaler | None:
    """The one that the specification names, else the only one, or the first."""
    return next((item for item in items if wanted in (None, item.name)), None)


def hidden(autoscalers: Sequence[Object], scaled: Sequence[Object], target: str) -> str:
    """An autoscaler that KEDA made for the target of a ScaledObject that is not seen."""
    seen = {item["metadata"]["name"] for item in scaled}
    made = [item for item in autoscalers if _scales(item, target) and _maker(item) not in ("", *seen)]
    return str(made[0]["metadata"]["name"]) if made else ""


def copies(autoscalers: Sequence[Object], scaled: Sequence[Object], canary: str) -> list[Scaler]:
    """Ours."""
    wanted = names.baseline(canary)
    items = [*(Scaler(AUTOSCALERS, item) for item in autoscalers), *(Scaler(SCALED_OBJECTS, item) for item in scaled)]
    return [item for item in items if item.name == wanted and facts.label(item.body, names.CANARY) == canary]


def fact(users: Scaler | None, ours: Sequence[Scaler]) -> Autoscaler | None:
    if users is None:
        return None
    same = [item.kind is users.kind and facts.annotation(item.body, names.COPY_OF) == copy_of(users) for item in ours]
    return Autoscaler(
        users.name, facts.version(users.body), keda=users.keda, copied=same == [True], paused=_note(users) is not None
    )


def build(owner: Owner, users: Scaler) -> Object:
    """The user's autoscaler, for the baseline."""
    spec = copy.deepcopy(users.body["spec"])
    spec["scaleTargetRef"] = {
        **({key: value for key, value in spec["scaleTargetRef"].items() if key == "envSourceContainerName"}),
        "apiVersion": DEPLOYMENTS.api_version,
        "kind": DEPLOYMENTS.kind,
        "name": names.baseline(owner.name),
    }
    if users.keda:
        advanced = spec.get("advanced") or {}
        # Of two HorizontalPodAutoscalers of one name there can be one; the baseline is not restored, it ends.
        (advanced.get("horizontalPodAutoscalerConfig") or {}).pop("name", None)
        advanced.pop("restoreToOriginalReplicaCount", None)
    return {
        "apiVersion": users.kind.api_version,
        "kind": users.kind.kind,
        "metadata": {
            "name": names.baseline(owner.name),
            "namespace": owner.namespace,
            "labels": {**owner.labels(names.BASELINE), names.UID: owner.uid},
            "annotations": {**_pausing(users), names.COPY_OF: copy_of(users)},
        },
        "spec": spec,
    }


def copy_of(users: Scaler) -> str:
    """Says whether a copy is still one."""
    found = {"name": users.name, "spec": users.body["spec"], **({"annotations": _pausing(users)} if users.keda else {})}
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:16]


def pause(users: Scaler) -> dict[str, str | None]:
    """The annotations that pause it, with a note of what the user had said."""
    return {_PAUSED: "true", _PAUSED_REPLICAS: None, names.PAUSED_BY_US: json.dumps(_pausing(users), sort_keys=True)}


def resume(users: Scaler) -> dict[str, str | None]:
    """The annotations as the user had them."""
    return {_PAUSED: None, _PAUSED_REPLICAS: None, **_pausing(users), names.PAUSED_BY_US: None}


def _scales(item: Object, target: str) -> bool:
    reference = item["spec"].get("scaleTargetRef") or {}
    return reference.get("kind", "Deployment") == "Deployment" and reference.get("name") == target


def _maker(item: Object) -> str:
    owners = item["metadata"].get("ownerReferences") or []
    return next((str(owner["name"]) for owner in owners if owner.get("kind") == SCALED_OBJECTS.kind), "")


def _note(users: Scaler) -> dict[str, str] | None:
    """What the user had said when we paused it; None where we have not, or somebody has taken the pause off."""
    try:
        noted = json.loads(facts.annotation(users.body, names.PAUSED_BY_US))
    except ValueError:
        return None
    annotations = users.body["metadata"].get("annotations") or {}
    held = annotations.get(_PAUSED) == "true" and _PAUSED_REPLICAS not in annotations
    return {str(key): str(value) for key, value in noted.items()} if isinstance(noted, dict) and held else None


def _pausing(users: Scaler) -> dict[str, str]:
    """The user's own annotations about pausing."""
    if not users.keda:
        return {}
    noted = _note(users)
    annotations = users.body["metadata"].get("annotations") or {}
    others = {key: str(value) for key, value in annotations.items() if key.startswith(_KEDAS)}
    if noted is None:
        return others
    return {key: value for key, value in others.items() if key not in (_PAUSED, _PAUSED_REPLICAS)} | noted
