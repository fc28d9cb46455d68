"""Why a target cannot be adopted, or a run not begin: ordered checks over the facts, each with its remedy.

Called by `adopting` before anything is touched, and by `serving` before a run.
"""

from collections.abc import Callable
from dataclasses import dataclass

from modelcanary_gate.plan.observed import Observed, Service, Target
from modelcanary_gate.plan.reasons import Why
from modelcanary_gate.spec import Spec


@dataclass(frozen=True, slots=True)
class Blocker:
    reason: Why
    message: str  # what is wrong, and the remedy


Check = Callable[[Spec, Observed], Blocker | None]


def first_blocker(spec: Spec, observed: Observed) -> Blocker | None:
    """The first reason not to adopt."""
    return next((found for check in _CHECKS if (found := check(spec, observed)) is not None), None)


def unfit(spec: Spec, observed: Observed) -> Blocker | None:
    """Why the target's template cannot be tried, or not be the baseline's after that."""
    target = observed.target
    if target is not None and not target.has_port:
        return Blocker(
            Why.PORT_UNRESOLVED,
            "spec.service.port: no container of the target's template has the port that the Service targets by name; "
            "give a container port that name",
        )
    if target is not None and spec.target is not None:
        for check in _TEMPLATE_CHECKS:
            found = check(spec.target.name, target, observed)
            if found is not None:
                return found
    return _overlap(observed)


def _overlap(observed: Observed) -> Blocker | None:
    """A Service that would send users to the candidate."""
    if not observed.candidate_matches:
        return None
    return Blocker(
        Why.SELECTOR_OVERLAP,
        f"spec.candidate.labels: the Service {observed.candidate_matches[0]} would find the candidate's pods; "
        "write labels here that no Service selects on",
    )


def unknown_endpoint(observed: Observed) -> Blocker | None:
    """A name that the cluster's admin does not list, or not for this."""
    return Blocker(Why.ENDPOINT_UNKNOWN, observed.endpoint_problem) if observed.endpoint_problem else None


def _endpoints(_: Spec, observed: Observed) -> Blocker | None:
    return unknown_endpoint(observed)


def _names(_: Spec, observed: Observed) -> Blocker | None:
    return name_taken(observed)


def name_taken(observed: Observed) -> Blocker | None:
    """An object that has the name of one of ours, which therefore cannot be made."""
    if not observed.taken:
        return None
    return Blocker(
        Why.NAME_TAKEN, f"metadata.name: {observed.taken[0]} is there and not ours; rename it, or the ModelCanary"
    )


def _alone(_: Spec, observed: Observed) -> Blocker | None:
    if not observed.rivals:
        return None
    return Blocker(
        Why.TARGET_TAKEN,
        f"spec.targetRef: the ModelCanary {observed.rivals[0]} has the same target; delete one of the two",
    )


def _target(spec: Spec, observed: Observed) -> Blocker | None:
    target = observed.target
    name = spec.target.name if spec.target is not None else ""
    if target is None:
        return Blocker(
            Why.TARGET_MISSING, f"spec.targetRef.name: there is no Deployment {name} in this namespace; create it"
        )
    return next((found for check in _TARGET_CHECKS if (found := check(name, target, observed)) is not None), None)


def _controlled(name: str, target: Target, _: Observed) -> Blocker | None:
    if not target.controller:
        return None
    return Blocker(
        Why.TARGET_CONTROLLED,
        f"spec.targetRef: the Deployment {name} belongs to {target.controller}, which would undo what is done to it; "
        "name a Deployment that nobody owns",
    )


def _host(name: str, target: Target, _: Observed) -> Blocker | None:
    if target.host_network:
        return Blocker(
            Why.HOST_NETWORK,
            f"spec.targetRef: the pods of {name} use the node's network, two cannot share it; remove hostNetwork",
        )
    if target.host_ports:
        return Blocker(
            Why.HOST_PORT,
            f"spec.targetRef: the pods of {name} take port {target.host_ports[0]} of their node; remove hostPort",
        )
    return None


def _ports(name: str, target: Target, observed: Observed) -> Blocker | None:
    clash = sorted(set(target.ports) & set(observed.our_ports))
    if not clash:
        return None
    return Blocker(
        Why.PORT_TAKEN, f"spec.targetRef: {name} listens on {clash[0]}, which the sidecar needs; use another port"
    )


def _reserved(name: str, target: Target, _: Observed) -> Blocker | None:
    if not target.clashes:
        return None
    return Blocker(
        Why.NAME_TAKEN, f"spec.targetRef: {target.clashes[0]} of {name} has the name that the sidecar needs; rename it"
    )


def _volumes(name: str, target: Target, _: Observed) -> Blocker | None:
    if not target.exclusive_volumes:
        return None
    return Blocker(
        Why.VOLUME_NOT_SHAREABLE,
        f"spec.targetRef: the claim {target.exclusive_volumes[0]} of {name} is ReadWriteOncePod, and a candidate "
        "needs it too; use ReadOnlyMany, ReadWriteMany or ReadWriteOnce",
    )


def _paused(name: str, target: Target, observed: Observed) -> Blocker | None:
    if target.paused and not target.held and observed.baseline is None:
        return Blocker(
            Why.TARGET_PAUSED, f"spec.targetRef: the Deployment {name} is paused by somebody else; resume it"
        )
    return None


def _replicas(name: str, target: Target, observed: Observed) -> Blocker | None:
    if target.replicas == 0 and not target.held and observed.baseline is None:
        return Blocker(Why.TARGET_SCALED_TO_ZERO, f"spec.targetRef: the Deployment {name} has no replicas; scale it up")
    return None


_TEMPLATE_CHECKS = (_host, _ports, _reserved)
_TARGET_CHECKS = (_controlled, *_TEMPLATE_CHECKS, _volumes, _paused, _replicas)


def _service(spec: Spec, observed: Observed) -> Blocker | None:
    name = spec.service.name if spec.service is not None else ""
    service = observed.service
    if service is None:
        return Blocker(
            Why.SERVICE_MISSING, f"spec.service.name: there is no Service {name} in this namespace; create it"
        )
    return _service_shape(spec, name, service)


def _service_shape(spec: Spec, name: str, service: Service) -> Blocker | None:
    port = spec.service.port if spec.service is not None else ""
    if service.headless:
        return Blocker(
            Why.SERVICE_HEADLESS,
            f"spec.service: the Service {name} is headless: its clients choose pods themselves; give it an IP",
        )
    if service.without_selector:
        return Blocker(
            Why.SERVICE_WITHOUT_SELECTOR,
            f"spec.service: the Service {name} has no selector; let it select the target's pods",
        )
    if not service.has_port:
        return Blocker(
            Why.SERVICE_PORT_MISSING, f"spec.service.port: the Service {name} has no port {port}; correct the name"
        )
    if not service.selects_target:
        return Blocker(
            Why.SERVICE_SELECTS_OTHERS,
            f"spec.service: the Service {name} does not select the target's pods; correct one of the two",
        )
    if service.numeric and spec.adoption.service == "Untouched":
        return Blocker(
            Why.NUMERIC_PORT,
            f"spec.adoption.service: the Service {name} targets a port by number, which Untouched cannot "
            "leave as it is; target the port by its name, or say Managed",
        )
    return None


def _autoscaler(spec: Spec, observed: Observed) -> Blocker | None:
    if spec.autoscaler is not None and spec.autoscaler not in (*observed.autoscalers, observed.autoscaler_hidden):
        return Blocker(
            Why.AUTOSCALER_MISSING,
            f"spec.autoscalerRef: no autoscaler {spec.autoscaler} of the target is there; correct the name, or create "
            "it",
        )
    if observed.autoscaler_hidden:
        return Blocker(
            Why.AUTOSCALER_HIDDEN,
            f"spec.targetRef: the autoscaler {observed.autoscaler_hidden} belongs to a ScaledObject of KEDA that the "
            "operator may not read; let it list, create, update, patch and delete scaledobjects of keda.sh",
        )
    if spec.autoscaler is None and len(observed.autoscalers) > 1:
        found = " and ".join(observed.autoscalers)
        return Blocker(
            Why.AUTOSCALER_AMBIGUOUS, f"spec.autoscalerRef: {found} scale the target; name the one that is meant"
        )
    return None


_CHECKS: tuple[Check, ...] = (_endpoints, _names, _alone, _target, _service, _autoscaler, unfit)
