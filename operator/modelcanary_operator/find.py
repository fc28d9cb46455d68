"""Reads at once all that concerns one ModelCanary, from the API server and the ledger. Called by `reconcile`.

Workloads, pods and the resource are read anew each time; what seldom changes may be some seconds old (`recent`). What
is found goes two ways: to `observe`, which makes facts of it for the plan, and as it is to `apply`, which builds the
next object from it.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from modelcanary_gate.protocol import Instructions, SourceReport
from modelcanary_operator import facts, manifests, names, policies, templates
from modelcanary_operator.api import (
    AUTOSCALERS,
    CANARIES,
    CLAIMS,
    CONFIG_MAPS,
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    NETWORK_POLICIES,
    PODS,
    REVISIONS,
    SCALED_OBJECTS,
    SERVICES,
    Api,
    Kind,
    Object,
)
from modelcanary_operator.autoscalers import Scaler, chosen, copies, of_target
from modelcanary_operator.errors import ApiError, LedgerRefused, LedgerUnavailable, NotFound, Refused
from modelcanary_operator.insertion import Sidecar
from modelcanary_operator.ledger_client import Ledger
from modelcanary_operator.manifests import Owner, Source

T = TypeVar("T")


@dataclass(slots=True)
class Found:
    """The objects, as the API server has them."""

    resource: Object
    target: Object | None = None
    service: Object | None = None
    baseline: Object | None = None
    candidate: Object | None = None
    candidate_service: Object | None = None
    revisions: dict[str, Object] = field(default_factory=dict)  # by hash: the revision
    services: list[Object] = field(default_factory=list)
    pods: list[Object] = field(default_factory=list)
    slices: list[Object] = field(default_factory=list)
    autoscalers: list[Object] = field(default_factory=list)
    scaled_objects: list[Object] = field(default_factory=list)
    policies: list[Object] = field(default_factory=list)  # the user's and ours
    canaries: list[Object] = field(default_factory=list)
    claims: dict[str, Object] = field(default_factory=dict)
    taken: list[str] = field(default_factory=list)
    reports: list[Object] = field(default_factory=list)  # their metadata
    standing: Instructions | None = None
    sources: tuple[SourceReport, ...] | None = ()

    def template(self, template_hash: str) -> Object | None:
        revision = self.revisions.get(template_hash)
        found: Object | None = revision["data"]["template"] if revision is not None else None
        return found

    def autoscaler(self, owner: Owner) -> Scaler | None:
        """The user's that is meant."""
        return chosen(self.users_autoscalers(owner), owner.spec.autoscaler)

    def users_autoscalers(self, owner: Owner) -> list[Scaler]:
        target = owner.spec.target.name if owner.spec.target is not None else ""
        return of_target(self.autoscalers, self.scaled_objects, target)

    def autoscaler_copies(self, owner: Owner) -> list[Scaler]:
        return copies(self.autoscalers, self.scaled_objects, owner.name)

    def own_policies(self, owner: Owner) -> list[Object]:
        return [item for item in self.policies if facts.label(item, names.CANARY) == owner.name]

    def wanted_policies(self, owner: Owner) -> tuple[list[Object], list[Object]]:
        """Beside the user's: for the baseline, and for the candidate."""
        users = [item for item in self.policies if facts.label(item, names.CANARY) != owner.name]
        target = templates.labels(self.target["spec"]["template"]) if self.target is not None else {}
        baseline = templates.labels(self.baseline["spec"]["template"]) if self.baseline is not None else target
        selector = facts.selector(self.service) if self.service is not None else {}
        return policies.wanted(
            owner,
            users,
            policies.Pods(
                baseline=baseline,
                target=target,
                candidate={
                    **manifests.candidate_labels(owner.spec, target, selector),
                    **owner.labels(names.CANDIDATE),
                },
                model_ports=self._model_ports(owner),
                sidecar_port=self.sidecar(owner).port,
            ),
        )

    def _model_ports(self, owner: Owner) -> frozenset[str | int]:
        """The Service's target port, and the number that it is in each template."""
        aims = self.target_port(owner)
        if aims is None:
            return frozenset()
        known = [*([self.target["spec"]["template"]] if self.target is not None else [])]
        known += [revision["data"]["template"] for revision in self.revisions.values()]
        ports = [templates.find_port(template, aims) for template in known]
        return frozenset({aims, *(port.number for port in ports if port is not None)})

    def target_port(self, owner: Owner) -> str | int | None:
        """As the user wrote it; where it is redirected, the baseline knows what it was."""
        reference = owner.spec.service
        if self.service is None or reference is None:
            return None
        port = facts.service_port(self.service, reference)
        if port is None:
            return None
        aims = facts.target_port(port)
        return self.noted_port() or aims if aims == self.sidecar(owner).port else aims

    def noted_port(self) -> int | None:
        """The numeric port that the Service had before it was redirected."""
        noting = [*([self.baseline] if self.baseline is not None else []), *self.revisions.values()]
        noted = [facts.annotation(item, names.MODEL_PORT) for item in noting]
        return next((int(text) for text in noted if text), None)

    def sidecar(self, owner: Owner) -> Sidecar:
        """As it is in the baseline that there is, else as it would be put in now."""
        written = facts.annotation(self.baseline, names.SIDECAR) if self.baseline is not None else ""
        return Sidecar.from_json(written) or owner.sidecar()

    def source(self, owner: Owner, template_hash: str) -> Source | None:
        """None where the template is not saved, or has not the port that the Service targets."""
        template, aims = self.template(template_hash), self.target_port(owner)
        if template is None or aims is None:
            return None
        port = templates.find_port(template, aims)
        mounted = [self.claims[name] for name in templates.claims(template) if name in self.claims]
        near = any(facts.on_one_node(claim) for claim in mounted)
        return Source(template_hash, template, port, aims, near) if port is not None else None


async def together(*reads: Coroutine[Any, Any, T]) -> list[T]:
    """All of them at once; the first error is raised as it is."""
    try:
        async with asyncio.TaskGroup() as tasks:
            started = [tasks.create_task(read) for read in reads]
    except BaseExceptionGroup as group:
        expected = group.subgroup(ApiError)
        if expected is None:
            raise
        first: BaseException = expected
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from group
    return [task.result() for task in started]


async def find(
    api: Api, ledger: Ledger, owner: Owner, resource: Object, *, rivals: bool, reports: bool = False
) -> Found:
    """Raises ApiError when the API server does not say what is there.

    `rivals`: look at other ModelCanaries too; `reports`: at the decision reports.
    """
    namespace, name, spec = owner.namespace, owner.name, owner.spec
    found = Found(resource)
    reference = spec.target.name if spec.target is not None else ""
    service = spec.service.name if spec.service is not None else ""

    async def maybe(kind: Kind, wanted: str) -> list[Object]:
        try:
            return [await api.get(kind, namespace, wanted)]
        except NotFound:
            return []

    async def of_keda() -> list[Object]:
        """Nothing where KEDA is not installed, or not to be seen; what it makes then says that it is there."""
        try:
            return await api.list(SCALED_OBJECTS, namespace)
        except (NotFound, Refused):
            return []

    ours = {names.CANARY: name}
    lists = await together(
        maybe(DEPLOYMENTS, reference),
        maybe(DEPLOYMENTS, names.baseline(name)),
        maybe(DEPLOYMENTS, names.candidate(name)),
        api.list(SERVICES, namespace),
        api.list(REVISIONS, namespace, ours),
        api.list(PODS, namespace, ours),
        api.list(AUTOSCALERS, namespace),
        of_keda(),
        api.list(NETWORK_POLICIES, namespace),
        api.list(CANARIES, namespace) if rivals else _none(),
        api.list_metadata(CONFIG_MAPS, namespace, {**ours, names.ROLE: names.REPORT}) if reports else _none(),
    )
    target, baseline, candidate, found.services, revisions, found.pods, *rest = lists
    found.autoscalers, found.scaled_objects, found.policies, found.canaries, found.reports = rest
    found.target = target[0] if target else None
    if found.target is not None and facts.has_pods(found.target):
        # Only a target that serves is handed over, or back.
        found.slices = await api.list(ENDPOINT_SLICES, namespace, {"kubernetes.io/service-name": service})
    found.baseline = _ours(found, baseline, name)
    found.candidate = _ours(found, candidate, name)
    by_name = {item["metadata"]["name"]: item for item in found.services}
    found.service = by_name.get(service)
    between = by_name.get(names.candidate(name))
    found.candidate_service = _ours(found, [between] if between is not None else [], name)
    others = {names.baseline(name), names.candidate(name)}
    for item in (*found.autoscalers, *found.scaled_objects, *found.policies):
        if item["metadata"]["name"] in others:
            _ours(found, [item], name)
    found.revisions = {facts.annotation(item, names.TEMPLATE): item for item in revisions}
    known = [*([found.target["spec"]["template"]] if found.target is not None else [])]
    known += [revision["data"]["template"] for revision in found.revisions.values()]
    if any(templates.claims(template) for template in known):
        found.claims = {item["metadata"]["name"]: item for item in await api.list(CLAIMS, namespace)}
    try:
        found.standing = await ledger.standing(namespace, name)
    except (LedgerUnavailable, LedgerRefused):
        return found
    if owner.spec.labels.sources and found.standing.version:
        try:
            found.sources = tuple(await ledger.sources(namespace, name))
        except (LedgerUnavailable, LedgerRefused):  # an older ledger has no such list; nothing is decided by it
            found.sources = None
    return found


async def _none() -> list[Object]:
    return []


def _ours(found: Found, items: list[Object], name: str) -> Object | None:
    """The object, if it is ours; else its name is taken."""
    if not items:
        return None
    if facts.label(items[0], names.CANARY) == name:
        return items[0]
    found.taken.append(f"{items[0].get('kind', 'object')} {items[0]['metadata']['name']}")
    return None
