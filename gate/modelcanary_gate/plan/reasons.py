"""Why a ModelCanary is where it is, where the reason is not the gate's own: what the cluster and its users do.

With `vocabulary.Reason` these are all the reasons that a condition, an Event, a metric or a log line can carry.
"""

from enum import StrEnum


class Why(StrEnum):
    # before adoption: nothing is touched
    INVALID_SPEC = "InvalidSpec"
    ENDPOINT_UNKNOWN = "EndpointUnknown"  # or not of the type, or not for this namespace
    NAME_TAKEN = "NameTaken"
    TARGET_MISSING = "TargetMissing"
    TARGET_TAKEN = "TargetTaken"  # by another ModelCanary
    TARGET_CONTROLLED = "TargetControlled"
    TARGET_PAUSED = "TargetPaused"
    TARGET_SCALED_TO_ZERO = "TargetScaledToZero"
    TARGET_ROLLING_OUT = "TargetRollingOut"
    HOST_NETWORK = "HostNetwork"
    HOST_PORT = "HostPort"
    PORT_TAKEN = "PortTaken"
    VOLUME_NOT_SHAREABLE = "VolumeNotShareable"
    AUTOSCALER_MISSING = "AutoscalerMissing"
    AUTOSCALER_AMBIGUOUS = "AutoscalerAmbiguous"
    AUTOSCALER_HIDDEN = "AutoscalerHidden"  # of KEDA, which the operator may not read
    SERVICE_MISSING = "ServiceMissing"
    SERVICE_HEADLESS = "ServiceHeadless"
    SERVICE_WITHOUT_SELECTOR = "ServiceWithoutSelector"
    SERVICE_PORT_MISSING = "ServicePortMissing"
    SERVICE_SELECTS_OTHERS = "ServiceSelectsOthers"
    SELECTOR_OVERLAP = "SelectorOverlap"  # a Service would find the candidate's pods
    NUMERIC_PORT = "NumericPort"
    # adoption
    ADOPTING = "Adopting"
    TARGET_CHANGED = "TargetChanged"
    WAITING_FOR_BASELINE = "WaitingForBaseline"
    WAITING_FOR_CAPACITY = "WaitingForCapacity"  # pods find no node, or no quota
    ROLLOUT_OVERDUE = "RolloutOverdue"  # the Deployment's progressDeadlineSeconds are over
    PORT_UNRESOLVED = "PortUnresolved"
    DRAINING_TARGET = "DrainingTarget"
    # serving
    SERVING = "Serving"
    COOLING_DOWN = "CoolingDown"
    SUSPENDED = "Suspended"
    TARGET_SCALED_UP = "TargetScaledUp"
    REVISION_LOST = "RevisionLost"
    BASELINE_UNAVAILABLE = "BaselineUnavailable"
    # a run
    RUN_STARTED = "RunStarted"
    WAITING_FOR_CANDIDATE = "WaitingForCandidate"
    LEDGER_UNAVAILABLE = "LedgerUnavailable"
    SHADOWING = "Shadowing"
    CANARY_STEP = "CanaryStep"
    PAUSED = "Paused"
    DRY_RUN = "DryRun"
    AWAITING_APPROVAL = "AwaitingApproval"
    AWAITING_CONFIRMATION = "AwaitingConfirmation"  # a webhook was asked and has not answered
    PROMOTION_REFUSED = "PromotionRefused"  # by a webhook
    PROMOTED_BY_USER = "PromotedByUser"
    ROLLED_BACK_BY_USER = "RolledBackByUser"
    SUPERSEDED = "Superseded"
    SPEC_CHANGED = "SpecChanged"
    ROLLING_OUT = "RollingOut"
    PROMOTED = "Promoted"
    OBSERVING = "Observing"
    OBSERVED = "Observed"  # nothing spoke against what was promoted
    RETRIED = "Retried"
    VERB_REFUSED = "VerbRefused"  # an annotation names a run that cannot be meant
    REPORT_NOT_KEPT = "ReportNotKept"
    SIGNALS_LOST = "SignalsLost"  # the resource went before its endpoints could be told
    LEDGER_NOT_TOLD = "LedgerNotTold"  # the resource went before the ledger took that
    EVIDENCE_LOST = "EvidenceLost"  # the ledger has begun anew
    WRITE_REFUSED = "WriteRefused"  # by the API server: a permission, a policy, a quota
    # what ends a candidate without the gate
    IMAGE_PULL_FAILED = "ImagePullFailed"
    CONFIG_MISSING = "ConfigMissing"
    CRASH_LOOPING = "CrashLooping"
    UNSCHEDULABLE = "Unschedulable"
    CANDIDATE_NOT_READY = "CandidateNotReady"
    # of conditions that are about a part of a run
    NO_RUN = "NoRun"
    NO_PAIRS = "NoPairs"
    MODEL_UNREADABLE = "ModelUnreadable"
    NO_LABELS = "NoLabels"
    PAIRS_COME = "PairsCome"
    LABELS_COME = "LabelsCome"
    SOURCES_READ = "SourcesRead"
    SOURCE_FAILS = "SourceFails"  # of labels: brokers or files cannot be read, or are refused
    SOURCE_UNREAD = "SourceUnread"  # nobody reads it
    LABELS_EVEN = "LabelsEven"
    CANDIDATE_READY = "CandidateReady"
    # deletion
    DELETING = "Deleting"
    TARGET_NOT_READY = "TargetNotReady"
