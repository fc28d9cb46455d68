"""Who follows which `labels.sources`, and how they get on: what followers said lately. Called by `app`; no I/O.

Memory is enough: each follower says it all again within seconds. Topics are told to every follower, since the brokers
share them out; a folder of files is told to one, which keeps it as long as it goes on asking.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

from modelcanary_gate.protocol import Followed, Following, LabelSource, SourceReport
from modelcanary_gate.vocabulary import SourceKind
from modelcanary_ledger.model import Standing

#: Seconds after which a follower that says nothing has ended. It asks every few.
SILENCE = 30.0
#: Followers of one caller whose reports are kept; more would be a mistake.
_MOST_FOLLOWERS = 64

_Key = tuple[str, str, LabelSource]
_Who = tuple[Hashable, str]  # the caller, and how it calls its process


@dataclass(slots=True)
class _Follower:
    heard: float
    reports: dict[_Key, SourceReport]


class Sources:
    """`clock`: monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._followers: dict[_Who, _Follower] = {}
        self._holders: dict[_Key, _Who] = {}  # of files

    def exchange(self, following: Following, models: Sequence[Standing], caller: Hashable) -> list[Followed]:
        """Keeps what a follower reports of these models, which its caller may follow; all that it is to follow of them.

        No caller can stand in for another's followers, however it names its own.
        """
        now = self._clock()
        self._forget(now)
        who = caller, following.follower
        if who in self._followers or sum(each == caller for each, _ in self._followers) < _MOST_FOLLOWERS:
            listed = {(model.namespace, model.name, source) for model in models for source in model.sources}
            reports = {(each.namespace, each.name, each.source): each for each in following.reports}
            kept = {key: report for key, report in reports.items() if key in listed}
            self._followers[who] = _Follower(now, kept)
        return [
            Followed(standing.namespace, standing.name, source, standing.spec.labels.max_delay)
            for standing in models
            if standing.spec is not None  # before its first run, nothing can be labelled
            for source in standing.sources
            if self._is_for((standing.namespace, standing.name, source), who)
        ]

    def of(self, standing: Standing) -> list[SourceReport]:
        """Of each source that somebody follows: where one of several followers has a problem, that is shown."""
        self._forget(self._clock())
        found = []
        for source in standing.sources:
            key = (standing.namespace, standing.name, source)
            said = [known.reports[key] for known in self._followers.values() if key in known.reports]
            if said:
                found.append(_together(said))
        return found

    def _is_for(self, key: _Key, who: _Who) -> bool:
        if key[2].kind is SourceKind.KAFKA:
            return True
        return self._holders.setdefault(key, who) == who

    def _forget(self, now: float) -> None:
        for who in [who for who, known in self._followers.items() if now - known.heard > SILENCE]:
            del self._followers[who]
        self._holders = {key: who for key, who in self._holders.items() if who in self._followers}


def _together(said: list[SourceReport]) -> SourceReport:
    lags = [each.lag for each in said if each.lag is not None]
    return replace(
        said[0],
        problem=next((each.problem for each in said if each.problem), ""),
        lag=sum(lags) if lags else None,
        labels=sum(each.labels for each in said),
        poisoned=sum(each.poisoned for each in said),
    )
