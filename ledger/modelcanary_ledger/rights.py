"""What a caller may do: grants, as data. Pure; made by `auth`, asked by `app`.

It must not know tokens, nor how a caller was recognised.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from modelcanary_gate.protocol import BASELINE_SUFFIX
from modelcanary_ledger.errors import Forbidden

EVERY = "*"
#: Kubernetes cuts the name that a pod's is made of to this length, before it adds five random characters.
_LONGEST_STEM = 58
_RANDOM = re.compile(r"[a-z0-9]{5}")


class Call(StrEnum):
    """What is asked of the ledger; one per route."""

    PAIRS = "pairs"
    HEARTBEAT = "heartbeat"
    REFERENCES = "references"
    FEEDBACK = "feedback"
    EVIDENCE = "evidence"
    EXPORT = "export"
    INSTRUCTIONS = "instructions"
    SOURCES = "sources"


#: Of the pods of a canary's own baseline, and of nobody else in the namespace.
OF_SIDECARS = frozenset({Call.PAIRS, Call.HEARTBEAT, Call.REFERENCES})


class Kind(StrEnum):
    """How a caller was recognised."""

    ANYONE = "anyone"  # callers need not say who they are
    FILE = "file"
    SENDER = "sender"
    CERTIFICATE = "certificate"  # a sender too
    OPERATOR = "operator"
    FOLLOWER = "follower"
    ACCOUNT = "account"


@dataclass(frozen=True, slots=True)
class Grant:
    """Some calls for one canary, for those of a namespace, or for all."""

    calls: frozenset[Call]
    namespace: str = EVERY
    name: str = EVERY
    pod: str = ""  # only canaries of whose baseline this pod is
    known_as: str = ""  # what the canary calls who sends its labels, where that is not the caller's name

    def covers(self, call: Call, namespace: str, name: str) -> bool:
        return (
            call in self.calls
            and self.namespace in (EVERY, namespace)
            and self.name in (EVERY, name)
            and (not self.pod or is_baseline_pod(self.pod, name))
        )


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls. `name` goes into messages and beside the labels that they send; empty: nobody said."""

    kind: Kind
    name: str
    grants: tuple[Grant, ...]

    def may(self, call: Call, namespace: str, name: str) -> bool:
        return any(grant.covers(call, namespace, name) for grant in self.grants)

    def require(self, call: Call, namespace: str, name: str) -> None:
        """Raises Forbidden, which says the same whether there is such a canary or not."""
        if not self.may(call, namespace, name):
            raise Forbidden(
                f"{self.name} may not call {call} of {namespace}/{name}", field="namespace", remedy=self._remedy(call)
            )

    def require_some(self, call: Call) -> None:
        """For a call that names no canary: Raises Forbidden where there is none for which it is allowed."""
        if not any(call in grant.calls for grant in self.grants):
            raise Forbidden(f"{self.name} may not call {call}", remedy=self._remedy(call))

    def sends_as(self, namespace: str, name: str) -> str:
        """The name beside the labels that are sent to a canary."""
        found = next((grant for grant in self.grants if grant.covers(Call.FEEDBACK, namespace, name)), None)
        return found.known_as or self.name if found is not None else self.name

    def _remedy(self, call: Call) -> str:
        if self.kind in (Kind.SENDER, Kind.CERTIFICATE):
            return "whom labels.senders lists may send labels of that ModelCanary, and nothing else"
        if call is Call.INSTRUCTIONS:
            return "instructions come from the operator alone"
        if call is Call.SOURCES:
            return "sources are followed by the account that the ledger's --follower-account names"
        if call in OF_SIDECARS:
            return "this is for the pods of the ModelCanary's own baseline, by the token that is mounted there"
        return "use a token of a ServiceAccount of that namespace"


ALL = frozenset(Call)
ANYONE = Caller(Kind.ANYONE, "", (Grant(ALL),))


def operator(username: str) -> Caller:
    return Caller(Kind.OPERATOR, username, (Grant(ALL),))


def follower(username: str) -> Caller:
    """Who reads `labels.sources` for every namespace: it is told what they are, and sends what is in them."""
    return Caller(Kind.FOLLOWER, username, (Grant(frozenset({Call.SOURCES, Call.FEEDBACK})),))


def account(username: str, namespace: str, pod: str) -> Caller:
    """A ServiceAccount's token; `pod` is the one that it is bound to, empty if none."""
    grants = [Grant(frozenset({Call.FEEDBACK, Call.EVIDENCE, Call.EXPORT}), namespace)]
    if pod:
        grants.append(Grant(OF_SIDECARS, namespace, pod=pod))
    return Caller(Kind.ACCOUNT, username, tuple(grants))


def is_baseline_pod(pod: str, canary: str) -> bool:
    """Whether a pod has the name of one of the canary's baseline: <canary>-baseline-<hash>-<five random characters>.

    The middle has no hyphen, so that a canary named `a` is not sent pairs by the pods of one named `a-baseline-b`;
    where the name was too long, it is cut before it ends.
    """
    stem, random = pod[:-5], pod[-5:]
    wanted = f"{canary}{BASELINE_SUFFIX}-"
    if not _RANDOM.fullmatch(random):
        return False
    if len(stem) == _LONGEST_STEM and len(wanted) >= _LONGEST_STEM:
        return stem == wanted[:_LONGEST_STEM]
    cut = len(stem) == _LONGEST_STEM
    middle = stem.removeprefix(wanted) if stem.startswith(wanted) else ""
    return bool(re.fullmatch(r"[a-z0-9]*-?" if cut else r"[a-z0-9]+-", middle))
