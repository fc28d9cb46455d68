"""One model's standing: its instructions, who gave them, and which shares of the requests were mirrored lately.

Called by `core` and, read only, by the HTTP side: a standing is never changed, only replaced.
"""

from dataclasses import dataclass, field, replace

from modelcanary_gate.protocol import Instructions, LabelSender, LabelSource
from modelcanary_gate.spec import Spec

#: What a sidecar of an unknown model is told: mirror nothing.
IDLE = Instructions(version=0)


@dataclass(frozen=True, slots=True)
class Share:
    """A share of the requests that was in force, until `until` (None: still)."""

    share: float
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """A model as it stands: (namespace, name), its current run's number, and what sidecars do."""

    no: int
    namespace: str
    name: str
    epoch: int = 0
    run: int = 0  # 0: none yet
    instructions: Instructions = IDLE
    spec: Spec | None = None  # of the current run
    class_index: dict[str, int] = field(default_factory=dict)
    shares: tuple[Share, ...] = ()
    senders: tuple[LabelSender, ...] = ()  # who may send its labels by a token of their own
    sources: tuple[LabelSource, ...] = ()  # where followers read its labels

    @property
    def forgotten(self) -> bool:
        """Nobody tells its sidecars anything: it was deleted. Instructions that were put have a version."""
        return not self.instructions.version

    @property
    def key(self) -> tuple[str, str]:
        return self.namespace, self.name

    def sampled_below(self, now: float) -> float:
        """The largest share in force within the time for which labels are waited for."""
        window = self.spec.labels.max_delay if self.spec else 0.0
        return max(
            (share.share for share in self.shares if share.until is None or share.until > now - window),
            default=0.0,
        )

    def with_share(self, share: float, now: float) -> "Standing":
        """The share in force from now on; of those before, what may still matter."""
        window = self.spec.labels.max_delay if self.spec else 0.0
        kept = [
            old if old.until is not None else replace(old, until=now)
            for old in self.shares
            if old.until is None or old.until > now - window
        ]
        if self.shares and self.shares[-1].until is None and self.shares[-1].share == share:
            kept[-1] = self.shares[-1]
        else:
            kept.append(Share(share))
        return replace(self, shares=tuple(kept[-64:]))
