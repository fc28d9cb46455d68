"""Carries out one action of the plan: one write to the API server or the ledger. Called by `reconcile`.

Writes to what there is repeat the version that was observed, creations are refused where there is something: a write of
a process that was frozen meanwhile has no effect. For that reason our own objects are replaced rather than applied by
the server's field managers, whose creations would overwrite.
"""

import copy
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

from modelcanary_gate.plan import actions as do
from modelcanary_gate.plan.status import Rejected
from modelcanary_gate.protocol import LabelSender, LabelSource, PutInstructions
from modelcanary_gate.record import Record
from modelcanary_operator import autoscalers, facts, manifests, names, reports
from modelcanary_operator.api import (
    CANARIES,
    CONFIG_MAPS,
    DEPLOYMENTS,
    NETWORK_POLICIES,
    REVISIONS,
    SCALED_OBJECTS,
    SERVICES,
    Api,
    Kind,
    Object,
)
from modelcanary_operator.errors import Conflict, NotFound, Refused
from modelcanary_operator.find import Found
from modelcanary_operator.ledger_client import Ledger
from modelcanary_operator.manifests import Owner, Source
from modelcanary_operator.status_json import write_note
from modelcanary_operator.templates import containers, ports, template_hash


@dataclass(frozen=True, slots=True)
class Applier:
    """For one action, on what one look has found."""

    api: Api
    ledger: Ledger
    owner: Owner
    found: Found
    epoch: int
    record: Callable[[], Awaitable[Record]]  # of the run that is decided

    async def apply(self, action: do.Action) -> None:
        """Raises ApiError, LedgerUnavailable or LedgerRefused. What is gone already counts as deleted."""
        owner = self.owner
        match action:
            case do.AddFinalizer():
                await self._finalizers([*self._others(), names.FINALIZER])
            case do.RemoveFinalizer(_):
                await self._finalizers(self._others())
            case do.SaveRevision(template):
                await self._save_revision(template)
            case do.DeleteRevision(template):
                revision = self.found.revisions.get(template)
                if revision is not None:
                    await self._delete(REVISIONS, revision["metadata"]["name"], None)
            case do.NoteRejection(rejected):
                await self._note(rejected)
            case do.HoldTarget(version, template):
                await self._patch_target(version, {"paused": True}, {names.HELD: template})
            case do.ScaleTarget(version, replicas):
                await self._patch_target(version, {"replicas": replicas})
            case do.ReleaseTarget(version, replicas):
                await self._patch_target(version, {"paused": False, "replicas": replicas})
            case do.ForgetTarget(version):
                await self._patch_target(version, {}, {names.HELD: None})
            case do.RestoreTemplate(version, template):
                await self._restore_template(version, template)
            case do.NarrowSelector(version):
                await self._patch_service(version, {"selector": {names.SERVING: owner.name}})
            case do.RestoreSelector(version):
                await self._patch_service(version, {"selector": {names.SERVING: None}})
            case do.RedirectPort(version):
                await self._aim(version, self.found.sidecar(owner).port)
            case do.RestorePort(version):
                await self._aim(version, self._model_port())
            case do.RemoveVerb(verb, _, _):
                await self._forget_verb(names.VERBS[verb])
            case do.KeepReport(decision):
                built = reports.config_map(owner, decision, await self.record())
                await self.api.create(CONFIG_MAPS, owner.namespace, built)
            case do.DeleteReport(decision):
                await self._delete(CONFIG_MAPS, names.report(owner.name, decision), None)
            case do.ForgetEvidence():
                await self.ledger.forget(owner.namespace, owner.name, self.epoch)
            case do.Instruct(instructions):
                request = PutInstructions(
                    self.epoch, instructions, self.found.resource["spec"], self._senders(), self._sources()
                )
                await self.ledger.put(owner.namespace, owner.name, request)
            case _:
                await self._apply_to_ours(action)

    async def _apply_to_ours(self, action: do.Action) -> None:
        """The baseline, the candidate, and what goes with them."""
        owner = self.owner
        match action:
            case do.ApplyBaseline(template, replicas, version):
                await self._apply_baseline(template, replicas, version)
            case do.ScaleBaseline(version, replicas):
                await self._patch(names.baseline(owner.name), version, {"replicas": replicas})
            case do.DeleteBaseline(version):
                await self._delete(DEPLOYMENTS, names.baseline(owner.name), version)
            case do.ApplyCandidate(run, template, replicas, version):
                selector = facts.selector(self.found.service) if self.found.service is not None else {}
                built = manifests.candidate(owner, self._source(template), replicas, run, selector)
                await self._put(built, self.found.candidate, version)
            case do.DeleteCandidate(version):
                await self._delete(DEPLOYMENTS, names.candidate(owner.name), version)
            case do.ApplyCandidateService(template):
                built = manifests.candidate_service(owner, self._source(template).port)
                await self.api.create(SERVICES, owner.namespace, built)
            case do.DeleteCandidateService():
                await self._delete(SERVICES, names.candidate(owner.name), None)
            case do.CopyAutoscaler(name):
                await self._copy_autoscaler(self._autoscaler(name))
            case do.DeleteAutoscaler():
                for found in self.found.autoscaler_copies(owner)[:1]:
                    await self._delete(found.kind, found.name, facts.version(found.body))
            case do.PauseAutoscaler(name, version):
                await self._annotate(SCALED_OBJECTS, name, version, autoscalers.pause(self._autoscaler(name)))
            case do.ResumeAutoscaler(name, version):
                await self._annotate(SCALED_OBJECTS, name, version, autoscalers.resume(self._autoscaler(name)))
            case do.ApplyPolicy(name, version):
                await self._apply_policy(name, version)
            case do.DeletePolicy(name, version):
                await self._delete(NETWORK_POLICIES, name, version)

    def _senders(self) -> list[LabelSender]:
        """None of a ModelCanary that is being deleted: its tokens end with it."""
        if self.found.resource["metadata"].get("deletionTimestamp"):
            return []
        senders = self.owner.spec.labels.senders
        return [LabelSender(sender.name, sender.token_sha256, sender.certificate_san) for sender in senders]

    def _sources(self) -> list[LabelSource]:
        """As above: of one that is being deleted, nothing is read any more."""
        return [] if self.found.resource["metadata"].get("deletionTimestamp") else list(self.owner.spec.labels.sources)

    # --- the resource

    def _others(self) -> list[str]:
        return [name for name in self.found.resource["metadata"].get("finalizers") or [] if name != names.FINALIZER]

    async def _finalizers(self, finalizers: list[str]) -> None:
        version = facts.version(self.found.resource)
        patch: Object = {"metadata": {"finalizers": finalizers, "resourceVersion": version}}
        await self.api.merge(CANARIES, self.owner.namespace, self.owner.name, patch)

    async def _forget_verb(self, annotation: str) -> None:
        version = facts.version(self.found.resource)
        patch: Object = {"metadata": {"annotations": {annotation: None}, "resourceVersion": version}}
        await self.api.merge(CANARIES, self.owner.namespace, self.owner.name, patch)

    # --- templates

    def _source(self, template: str) -> Source:
        source = self.found.source(self.owner, template)
        if source is None:
            raise Refused(
                422,
                f"the template {template} has no port as the Service targets it; "
                "let it declare a container port with the targetPort's name",
            )
        return source

    async def _save_revision(self, template: str) -> None:
        target = self.found.target
        if target is None or template_hash(target["spec"]["template"]) != template:
            raise Conflict(409, "the target has another template by now")
        built = manifests.revision(self.owner, template, target["spec"]["template"], self.found.target_port(self.owner))
        await self.api.create(REVISIONS, self.owner.namespace, built)

    async def _note(self, rejected: Rejected) -> None:
        revision = self.found.revisions.get(rejected.template)
        if revision is None:
            raise Conflict(409, "the revision has gone")
        note = {names.REJECTED: write_note(rejected)}
        # Not by a patch: it would write the data in another order of keys, and the API server takes that for a change.
        body = {"apiVersion": REVISIONS.api_version, "kind": REVISIONS.kind, **copy.deepcopy(revision)}
        body["metadata"]["annotations"] = {**(body["metadata"].get("annotations") or {}), **note}
        await self.api.replace(REVISIONS, self.owner.namespace, body["metadata"]["name"], body)

    async def _annotate(self, kind: Kind, name: str, version: str, annotations: Mapping[str, str | None]) -> None:
        patch: Object = {"metadata": {"resourceVersion": version, "annotations": dict(annotations)}}
        await self.api.merge(kind, self.owner.namespace, name, patch)

    async def _restore_template(self, version: str, template: str) -> None:
        saved = self.found.template(template)
        if self.found.target is None or saved is None:
            raise Conflict(409, "the target or the revision has gone")
        body = copy.deepcopy(self.found.target)
        body["metadata"]["resourceVersion"] = version
        body["spec"]["template"] = saved
        await self.api.replace(DEPLOYMENTS, self.owner.namespace, body["metadata"]["name"], body)

    # --- workloads

    async def _patch(
        self, name: str, version: str, spec: Object, annotations: dict[str, str | None] | None = None
    ) -> None:
        patch: Object = {"metadata": {"resourceVersion": version}, "spec": spec}
        if annotations:
            patch["metadata"]["annotations"] = annotations
        await self.api.merge(DEPLOYMENTS, self.owner.namespace, name, patch)

    async def _patch_target(self, version: str, spec: Object, annotations: dict[str, str | None] | None = None) -> None:
        if self.owner.spec.target is None:
            raise Refused(422, "the specification has no target")
        await self._patch(self.owner.spec.target.name, version, spec, annotations)

    async def _apply_baseline(self, template: str, replicas: int | None, version: str | None) -> None:
        live = self.found.baseline
        asked = facts.annotation(self.found.resource, names.REFRESH)
        answered = facts.annotation(live, names.REFRESHED) if live is not None else ""
        # The sidecar stays as it was put in, until the pods are rolled for another template anyhow, or it is asked for.
        kept = live is not None and facts.annotation(live, names.TEMPLATE) == template and asked in ("", answered)
        before = self.found.sidecar(self.owner)
        # Its port stays in any case: the Service may target it, and pods of before and after serve side by side.
        sidecar = before if kept else replace(self.owner.sidecar(), port=before.port)
        count = replicas if replicas is not None else facts.replicas(live) if live is not None else 1
        built = manifests.baseline(
            self.owner, self._source(template), count, self.found.target, sidecar, answered if kept else asked
        )
        await self._put(built, live, version)

    async def _put(self, built: Object, live: Object | None, version: str | None) -> None:
        """Creates it, or makes the one there is so; labels and annotations of others stay."""
        namespace, name = self.owner.namespace, built["metadata"]["name"]
        if version is None or live is None:
            await self.api.create(DEPLOYMENTS, namespace, built)
            return
        metadata = copy.deepcopy(live["metadata"])
        metadata.pop("managedFields", None)
        for key in ("labels", "annotations"):
            metadata[key] = {**(metadata.get(key) or {}), **(built["metadata"].get(key) or {})}
        if "ownerReferences" in built["metadata"]:
            metadata["ownerReferences"] = built["metadata"]["ownerReferences"]
        metadata["resourceVersion"] = version
        await self.api.replace(DEPLOYMENTS, namespace, name, {**built, "metadata": metadata})

    # --- the service

    async def _patch_service(self, version: str, spec: Object) -> None:
        if self.owner.spec.service is None:
            raise Refused(422, "the specification has no service")
        patch: Object = {"metadata": {"resourceVersion": version}, "spec": spec}
        await self.api.merge(SERVICES, self.owner.namespace, self.owner.spec.service.name, patch)

    async def _aim(self, version: str, number: int) -> None:
        """A merge patch replaces the list of ports, which is why the version must hold."""
        reference = self.owner.spec.service
        if reference is None or self.found.service is None:
            raise Conflict(409, "the Service has gone")
        every = copy.deepcopy(self.found.service["spec"]["ports"])
        port = facts.service_port({"spec": {"ports": every}}, reference)
        if port is None:
            raise Conflict(409, "the Service has the port no more")
        port["targetPort"] = number
        await self._patch_service(version, {"ports": every})

    def _model_port(self) -> int:
        """What the Service targeted before; where nobody noted it, the target's first port."""
        noted = self.found.noted_port()
        if noted is not None:
            return noted
        declared = [
            int(port["containerPort"])
            for container in (containers(self.found.target["spec"]["template"]) if self.found.target else [])
            for port in ports(container)
        ]
        if not declared:
            raise Refused(422, "nothing says which port the Service targeted before; set its targetPort by hand")
        return declared[0]

    # --- the user's neighbours

    def _autoscaler(self, name: str) -> autoscalers.Scaler:
        found = autoscalers.chosen(self.found.users_autoscalers(self.owner), name)
        if found is None:
            raise Conflict(409, "the autoscaler has gone")
        return found

    async def _copy_autoscaler(self, users: autoscalers.Scaler) -> None:
        """One of another kind goes first: two would scale the baseline."""
        others = self.found.autoscaler_copies(self.owner)
        wrong = next((item for item in others if item.kind is not users.kind), None)
        if wrong is not None:
            await self._delete(wrong.kind, wrong.name, facts.version(wrong.body))
            return
        built = autoscalers.build(self.owner, users)
        await self._write(users.kind, built, facts.version(others[0].body) if others else None)

    async def _apply_policy(self, name: str, version: str | None) -> None:
        wanted = [item for each in self.found.wanted_policies(self.owner) for item in each]
        built = next((item for item in wanted if item["metadata"]["name"] == name), None)
        if built is None:
            raise Conflict(409, "the policy is not asked for any more")
        await self._write(NETWORK_POLICIES, built, version)

    async def _write(self, kind: Kind, built: Object, version: str | None) -> None:
        """Creates it, or replaces the one there is."""
        if version is None:
            await self.api.create(kind, self.owner.namespace, built)
            return
        built["metadata"]["resourceVersion"] = version
        await self.api.replace(kind, self.owner.namespace, built["metadata"]["name"], built)

    async def _delete(self, kind: Kind, name: str, version: str | None) -> None:
        try:
            await self.api.delete(kind, self.owner.namespace, name, version)
        except NotFound:
            return
