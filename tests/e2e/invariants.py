"""What must hold at every moment of every scenario, found again in its history. Pure; called by `team`.

1. The users' Service is never without a ready endpoint once it had one.
2. No pod of a template that was not judged is an endpoint of it: it was there at adoption, or a decision promoted it.
3. A decision is carried out at most once.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tests.e2e.history import History, Seen, dig
from tests.e2e.worlds import version_of

from modelcanary_operator import names
from modelcanary_operator.api import CANARIES, DEPLOYMENTS, ENDPOINT_SLICES, PODS, Object

_PROMOTING = "Promoting"
#: By phase: which template of the run the baseline takes by the decision. A promotion may be taken back.
_TAKEN = {_PROMOTING: "candidateTemplate", "RollingBack": "baselineTemplate"}


@dataclass(slots=True)
class Judged:
    """Which templates may serve, since which revision."""

    since: dict[str, int] = field(default_factory=dict)

    def allows(self, version: str, revision: int) -> bool:
        return version in self.since and self.since[version] <= revision


def broken(history: History, name: str, *, until: int | None = None) -> list[str]:
    """What did not hold, in words. `name`: of Service and ModelCanary; `until`: the revision of the end."""
    limit = until if until is not None else 1 << 62
    return [*_endpoints(history, name, limit), *_promotions(history, name)]


def _endpoints(history: History, name: str, limit: int) -> Iterable[str]:
    judged, versions = judged_versions(history, name), _pods(history)
    adopted, released = _reign(history, name)
    slices: dict[str, frozenset[str]] = {}
    served = False
    for seen in history.of(ENDPOINT_SLICES):
        labels = dig(seen.body, "metadata", "labels") or {}
        if seen.name not in slices and labels.get("kubernetes.io/service-name") != name:  # type: ignore[attr-defined]
            continue
        if seen.revision >= limit:
            return
        slices[seen.name] = _ready(seen.body) if seen.body is not None else frozenset()
        ready = frozenset().union(*slices.values())
        served = served or bool(ready)
        if served and not ready:
            yield f"at {seen.at:.3f} the Service {name} had no ready endpoint (revision {seen.revision})"
        if adopted is None or not adopted <= seen.revision < released:
            continue
        for pod in slices[seen.name]:
            version = versions.get(pod, "")
            if not judged.allows(version, seen.revision):
                yield f"at {seen.at:.3f} pod {pod} of version {version!r}, which nothing judged, was an endpoint"


def judged_versions(history: History, name: str) -> Judged:
    """The version that the target had when it was adopted, and each that a decision promoted, from that on."""
    templates = _templates(history)
    judged = Judged()
    for seen in history.of(CANARIES, name):
        adopted = dig(seen.body, "status", "baseline", "template")
        if not judged.since and isinstance(adopted, str):
            judged.since[templates.get(adopted, adopted)] = 0
        if seen.status("phase") == _PROMOTING:
            template = str(seen.status("run", "candidateTemplate"))
            judged.since.setdefault(templates.get(template, template), seen.revision)
    return judged


def _reign(history: History, name: str) -> tuple[int | None, int]:
    """The revisions between which we answer for who serves: from the adoption to the end of the resource."""
    began, ended = None, 1 << 62
    for seen in history.of(CANARIES, name):
        if began is None and seen.status("phase") == "Serving":
            began = seen.revision
        ended = seen.revision if seen.body is None else 1 << 62
    return began, ended


def _promotions(history: History, name: str) -> Iterable[str]:
    """Each template that the baseline took must have a decision of its own before it."""
    decisions: list[tuple[int, str, str]] = []  # revision, decision, template
    for seen in history.of(CANARIES, name):
        taken = _TAKEN.get(str(seen.status("phase")))
        if taken is not None:
            decision = str(seen.status("decided", "id"))
            if decision not in {known for _, known, _ in decisions}:
                decisions.append((seen.revision, decision, str(seen.status("run", taken))))
    serving = ""
    for seen in history.of(DEPLOYMENTS, names.baseline(name)):
        template = dig(seen.body, "metadata", "annotations", names.TEMPLATE)
        if template in (serving, None):
            continue
        if serving:
            found = next((each for each in decisions if each[2] == template and each[0] < seen.revision), None)
            if found is None:
                yield f"at {seen.at:.3f} the baseline took template {template} without a decision that was not used yet"
            else:
                decisions.remove(found)
        serving = str(template)


def _templates(history: History) -> Mapping[str, str]:
    """Versions by the hash of their template, as the objects of ours say."""
    return {
        str(template): version
        for seen in history.of(DEPLOYMENTS)
        if (template := dig(seen.body, "metadata", "annotations", names.TEMPLATE))
        and (version := version_of(dig(seen.body, "spec", "template", "spec")))
    }


def _pods(history: History) -> Mapping[str, str]:
    return {seen.name: version_of(dig(seen.body, "spec")) for seen in history.of(PODS) if seen.body is not None}


def _ready(body: Object) -> frozenset[str]:
    return frozenset(
        str(dig(endpoint, "targetRef", "name"))
        for endpoint in body.get("endpoints") or []
        if dig(endpoint, "conditions", "ready")
    )


def moments(history: History, name: str, phase: str) -> list[Seen]:
    """The first change of each stay in a phase."""
    found: list[Seen] = []
    before = None
    for seen in history.of(CANARIES, name):
        now = seen.status("phase")
        if now == phase != before:
            found.append(seen)
        before = now
    return found
