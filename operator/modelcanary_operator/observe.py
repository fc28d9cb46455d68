"""Makes the plan's facts of what one look has found; pure but for one question to the baseline's pods.

Called by `reconcile`, between `find` and the plan.
"""

import asyncio
from collections.abc import Awaitable, Callable

from modelcanary_gate.contrasts import EvidencePlan
from modelcanary_gate.plan.observed import Baseline, Candidate, Observed
from modelcanary_gate.plan.status import Rejected
from modelcanary_operator import autoscalers, facts, manifests, names, policies, templates
from modelcanary_operator.api import Object
from modelcanary_operator.find import Found
from modelcanary_operator.insertion import Sidecar
from modelcanary_operator.manifests import Owner
from modelcanary_operator.status_json import read_note, seconds

#: Whether something accepts connections there.
Probe = Callable[[str, int], Awaitable[bool]]

_PROBE_TIME = 2.0


async def connects(address: str, port: int) -> bool:
    try:
        async with asyncio.timeout(_PROBE_TIME):
            _, writer = await asyncio.open_connection(address, port)
    except OSError:
        return False
    writer.close()
    return True


async def observe(found: Found, owner: Owner, probe: Probe) -> Observed:
    """The facts of what was found. It asks the baseline's pods, where users are about to depend on them."""
    name, spec = owner.name, owner.spec
    reference = spec.target.name if spec.target is not None else ""
    metadata = found.resource["metadata"]
    sidecar = found.sidecar(owner)
    target = None
    if found.target is not None:
        target = facts.target(found.target, found.claims, found.target_port(owner))
    pod_labels = templates.labels(found.target["spec"]["template"]) if found.target is not None else None
    service = (
        facts.service(found.service, spec.service, pod_labels, sidecar.port)
        if found.service is not None and spec.service is not None
        else None
    )
    live = target is not None and (target.replicas > 0 or target.pods > 0)
    answers = live and await _answering(found, owner, sidecar.port, probe)
    copies = found.autoscaler_copies(owner)
    baseline_policies, candidate_policies = found.wanted_policies(owner)
    own_policies = found.own_policies(owner)
    selector = facts.selector(found.service) if found.service is not None else {}
    candidate_labels = manifests.candidate_labels(spec, pod_labels or {}, selector)
    return Observed(
        name=name,
        deleting=bool(metadata.get("deletionTimestamp")),
        deleted_at=seconds(metadata["deletionTimestamp"]) if metadata.get("deletionTimestamp") else 0.0,
        finalizer=names.FINALIZER in (metadata.get("finalizers") or []),
        target=target,
        service=service,
        baseline=_baseline(found, owner, sidecar, answering=answers),
        candidate=_candidate(found, owner),
        candidate_service=found.candidate_service is not None,
        candidate_url=manifests.candidate_url(owner.namespace, name),
        candidate_pods=len(_pods(found, names.CANDIDATE)),
        autoscaler=autoscalers.fact(found.autoscaler(owner), copies),
        autoscaler_copy=bool(copies),
        autoscalers=tuple(item.name for item in found.users_autoscalers(owner)),
        autoscaler_hidden=autoscalers.hidden(found.autoscalers, found.scaled_objects, reference),
        baseline_policies=policies.fact(own_policies, baseline_policies, names.BASELINE),
        candidate_policies=policies.fact(own_policies, candidate_policies, names.CANDIDATE),
        revisions=frozenset(found.revisions),
        rejections=_rejections(found),
        generation=int(metadata.get("generation") or 0),
        standing=found.standing,
        sources=found.sources,
        measured=EvidencePlan.of(spec).digest,
        verbs=facts.verbs(found.resource),
        refresh=facts.annotation(found.resource, names.REFRESH),
        reports=facts.reports(found.reports, name),
        rivals=_rivals(found),
        taken=tuple(found.taken),
        candidate_matches=tuple(
            item["metadata"]["name"]
            for item in found.services
            if item["metadata"]["name"] != names.candidate(name)
            and templates.selects(facts.selector(item), candidate_labels)
        ),
        our_ports=(sidecar.port, sidecar.admin_port),
    )


def _rejections(found: Found) -> dict[str, Rejected]:
    noted = {name: read_note(facts.annotation(item, names.REJECTED)) for name, item in found.revisions.items()}
    return {name: rejected for name, rejected in noted.items() if rejected is not None}


def _pods(found: Found, role: str) -> list[Object]:
    return [pod for pod in found.pods if facts.label(pod, names.ROLE) == role]


def _baseline(found: Found, owner: Owner, sidecar: Sidecar, *, answering: bool) -> Baseline | None:
    live = found.baseline
    if live is None:
        return None
    source = found.source(owner, facts.annotation(live, names.TEMPLATE))
    drifted = False
    if source is not None:
        wanted = manifests.baseline(owner, source, facts.replicas(live), found.target, sidecar)
        drifted = not templates.contains(live["spec"]["template"], wanted["spec"]["template"])
    pods = _pods(found, names.BASELINE)
    return facts.baseline(live, owner.uid, pods, drifted=drifted, answering=answering)


def _candidate(found: Found, owner: Owner) -> Candidate | None:
    live = found.candidate
    if live is None:
        return None
    source = found.source(owner, facts.annotation(live, names.TEMPLATE))
    drifted = False
    if source is not None and found.service is not None:
        run = facts.annotation(live, names.RUN)
        wanted = manifests.candidate(owner, source, facts.replicas(live), run, facts.selector(found.service))
        drifted = not templates.contains(live["spec"]["template"], wanted["spec"]["template"])
    return facts.candidate(live, _pods(found, names.CANDIDATE), drifted=drifted)


async def _answering(found: Found, owner: Owner, port: int, probe: Probe) -> bool:
    """Every ready pod of the baseline is a ready endpoint on the right port, and its sidecar accepts connections."""
    up = {pod["metadata"]["name"]: pod for pod in _pods(found, names.BASELINE) if facts.ready(pod)}
    reference = owner.spec.service
    wanted = facts.service_port(found.service, reference) if found.service is not None and reference else None
    if not up or wanted is None:
        return False
    aims = facts.target_port(wanted)
    number = aims if isinstance(aims, int) else port
    reached: set[str] = set()
    for piece in found.slices:
        has_port = any(
            (item.get("name") or "") == (wanted.get("name") or "") and item.get("port") == number
            for item in piece.get("ports") or []
        )
        for endpoint in piece.get("endpoints") or [] if has_port else []:
            if (endpoint.get("conditions") or {}).get("ready", True):
                reached.add((endpoint.get("targetRef") or {}).get("name", ""))
    if not set(up) <= reached:
        return False
    addresses = [str((pod.get("status") or {}).get("podIP") or "") for pod in up.values()]
    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(_ask(probe, address, port)) for address in addresses if address]
    return len(asked) == len(addresses) and all(task.result() for task in asked)


async def _ask(probe: Probe, address: str, port: int) -> bool:
    return await probe(address, port)


def _rivals(found: Found) -> tuple[str, ...]:
    """Older resources with the same target."""

    def age(item: Object) -> tuple[str, str]:
        return item["metadata"]["creationTimestamp"], item["metadata"]["name"]

    own = found.resource
    same = own["spec"]["targetRef"]
    return tuple(
        item["metadata"]["name"]
        for item in found.canaries
        if item["metadata"]["uid"] != own["metadata"]["uid"]
        and item["spec"].get("targetRef") == same
        and age(item) < age(own)
    )
