"""Kubernetes Events: one for each change of phase or reason, and each action on what is the user's.

Called by `reconcile`. An Event that cannot be written is logged and forgotten: nothing depends on it.
"""

import logging
import uuid

from modelcanary_gate.plan import actions as do
from modelcanary_gate.plan.phases import Phase
from modelcanary_gate.plan.reasons import Why
from modelcanary_gate.plan.status import Status
from modelcanary_operator import names
from modelcanary_operator.api import EVENTS, Api, Object
from modelcanary_operator.errors import ApiError
from modelcanary_operator.status_json import moment

_log = logging.getLogger(__name__)
_WARNINGS = frozenset({Phase.STALLED, Phase.ROLLING_BACK})
_LONGEST = 1000

#: What is done to objects of the user's, each worth an Event.
TOLD: dict[type, tuple[str, str]] = {
    do.HoldTarget: ("TargetPaused", "the target is paused: a new template of it gets no pods before it is promoted"),
    do.ScaleTarget: ("TargetScaled", "the target is scaled to 0: the baseline serves"),
    do.RestoreTemplate: ("TemplateRestored", "the target gets the template back that was promoted last"),
    do.ReleaseTarget: ("TargetReleased", "the target is resumed and serves again"),
    do.NarrowSelector: ("SelectorNarrowed", "the Service finds the baseline's pods only"),
    do.RestoreSelector: ("SelectorRestored", "the Service has its own selector again"),
    do.RedirectPort: ("PortRedirected", "the Service targets the sidecar's port"),
    do.RestorePort: ("PortRestored", "the Service targets the model's port again"),
    do.PauseAutoscaler: ("AutoscalerPaused", "KEDA is paused for the target: its copy scales the baseline"),
    do.ResumeAutoscaler: ("AutoscalerResumed", "KEDA scales the target again"),
    do.ApplyPolicy: ("PolicyApplied", "a NetworkPolicy of ours adds to the user's what the sidecar or candidate needs"),
    do.ScaleBaseline: ("BaselineScaled", "the replicas that were asked of the target go to the baseline"),
}


class Recorder:
    def __init__(self, api: Api, identity: str) -> None:
        self._api = api
        self._identity = identity

    async def status(self, resource: Object, before: Status, after: Status, now: float) -> None:
        """Where the phase or the reason has changed."""
        if (before.phase, before.reason) == (after.phase, after.reason):
            return
        warning = after.stalled or after.phase in _WARNINGS
        await self.say(resource, after.reason or str(after.phase), f"{after.phase}: {after.message}", now, warning)

    async def action(self, resource: Object, action: do.Action, now: float) -> None:
        if isinstance(action, do.RemoveVerb) and action.refusal:
            await self.say(resource, Why.VERB_REFUSED, action.refusal, now, warning=True)
        if isinstance(action, do.RemoveFinalizer) and action.untold:
            words = f"it is deleted, and was not told: {', '.join(action.untold)}"
            await self.say(resource, Why.SIGNALS_LOST, words, now, warning=True)
        if isinstance(action, do.RemoveFinalizer) and action.unforgotten:
            words = "it is deleted, and the ledger did not take that: it keeps its senders and evidence"
            await self.say(resource, Why.LEDGER_NOT_TOLD, words, now, warning=True)
        told = TOLD.get(type(action))
        if told is not None:
            await self.say(resource, *told, now)

    async def say(self, resource: Object, reason: str, message: str, now: float, warning: bool = False) -> None:
        metadata = resource["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        when = moment(now)[:19] + "Z"
        body: Object = {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"name": f"{name}.{uuid.uuid4().hex[:16]}", "namespace": namespace},
            "involvedObject": {
                "apiVersion": names.API_VERSION,
                "kind": "ModelCanary",
                "namespace": namespace,
                "name": name,
                "uid": metadata["uid"],
                "resourceVersion": metadata["resourceVersion"],
            },
            "type": "Warning" if warning else "Normal",
            "reason": reason,
            "message": message[:_LONGEST],
            "source": {"component": "modelcanary-operator"},
            "reportingComponent": "modelcanary-operator",
            "reportingInstance": self._identity,
            "firstTimestamp": when,
            "lastTimestamp": when,
            "count": 1,
        }
        _log.info("%s/%s: %s: %s", namespace, name, reason, message)
        try:
            await self._api.create(EVENTS, namespace, body)
        except ApiError as error:
            _log.warning("%s/%s: the Event %s could not be written: %s", namespace, name, reason, error)
