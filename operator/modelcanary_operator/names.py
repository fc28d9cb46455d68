"""The names, labels and annotations of what is ours, so that it is found again."""

from modelcanary_gate.protocol import BASELINE_SUFFIX

PREFIX = "modelcanary.io"
API_VERSION = f"{PREFIX}/v1alpha1"
MANAGER = "modelcanary"
FINALIZER = f"{PREFIX}/operator"

#: On every object and pod of ours: the ModelCanary's name.
CANARY = f"{PREFIX}/canary"
#: On every object and pod of ours: `baseline` or `candidate`.
ROLE = f"{PREFIX}/role"
#: On the baseline's pods alone; for the handover it is in the Service's selector.
SERVING = f"{PREFIX}/baseline"
#: On objects, never on pods: the uid of the resource that made them.
UID = f"{PREFIX}/uid"

# Annotations
TEMPLATE = f"{PREFIX}/template"  # of a Deployment of ours: the hash of the user's pod template
RUN = f"{PREFIX}/run"
DECISION = f"{PREFIX}/decision"  # of a report: the decision's id
SIDECAR = f"{PREFIX}/sidecar"  # how the sidecar was put in: it stays so until the next promotion
MODEL_PORT = f"{PREFIX}/model-port"
HELD = f"{PREFIX}/held"  # on the target: the template that serves, when we paused it
COPY_OF = f"{PREFIX}/copy-of"  # of our autoscalers and policies: a hash of what they were made from
PAUSED_BY_US = f"{PREFIX}/paused"  # on an autoscaler of KEDA: what the user had said about pausing it
REFRESHED = f"{PREFIX}/refreshed-sidecar"  # on the baseline: the request that its sidecar has answered
REJECTED = f"{PREFIX}/rejected"  # on a ControllerRevision: when and why its template was rolled back

#: Runtime verbs, each with a run's id.
PROMOTE = f"{PREFIX}/promote"
ROLL_BACK = f"{PREFIX}/rollback"
PAUSE = f"{PREFIX}/pause"
RESUME = f"{PREFIX}/resume"
RETRY = f"{PREFIX}/retry"
#: Asks for today's sidecar, once for each value.
REFRESH = f"{PREFIX}/refresh-sidecar"

#: Of a runtime verb, by its field in the plan's `Verbs`.
VERBS = {"promote": PROMOTE, "rollback": ROLL_BACK, "pause": PAUSE, "resume": RESUME, "retry": RETRY}

BASELINE = "baseline"
CANDIDATE = "candidate"
REPORT = "report"
#: The ConfigMap with the authorities that the ledger's certificate may be of, in each canary's namespace.
AUTHORITY = "modelcanary-ca"
#: In a report's ConfigMap: the decision record, JSON, compressed.
RECORD_KEY = "record.json.gz"


def baseline(name: str) -> str:
    """The Deployment that serves users, and its autoscaler."""
    return f"{name}{BASELINE_SUFFIX}"


def candidate(name: str) -> str:
    """The Deployment on trial, and its Service."""
    return f"{name}-candidate"


def revision(name: str, template: str) -> str:
    return f"{name}-{template}"


def report(name: str, decision: str) -> str:
    """The ConfigMap of a decision's report. Its id is RUN/VERDICT, and a run's begins with the name."""
    return f"{name}-report-{decision.removeprefix(f'{name}-')}".replace("/", "-").lower()
