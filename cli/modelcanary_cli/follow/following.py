"""Follows what the ledger lists: a worker for each source, started, stopped and reported on as the list says.

Made by `command`. The ledger knows which sources there are, the admin's file where they are; neither is asked for the
other's. Where the ledger does not answer, what is followed goes on.
"""

import logging
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import msgspec

from modelcanary_cli.errors import CliError, InputError
from modelcanary_cli.feedback import Mailbox
from modelcanary_cli.follow.delivery import Tally
from modelcanary_cli.follow.folders import FolderFollower
from modelcanary_cli.follow.properties import digest
from modelcanary_cli.follow.topics import TopicFollower
from modelcanary_cli.follow.worker import Source, Worker
from modelcanary_cli.ledger_client import LedgerError
from modelcanary_gate.protocol import Followed, Following, FollowOrders, SourceReport
from modelcanary_gate.vocabulary import SourceKind
from modelcanary_operator.endpoints import Endpoints, EndpointType, read_endpoints
from modelcanary_operator.errors import EndpointsInvalid
from modelcanary_operator.label_places import LabelPlace

log = logging.getLogger(__name__)

#: Each is a few threads and some megabytes. Namespaces take turns, so that none can keep the others from theirs.
MOST_SOURCES = 256


@dataclass(frozen=True, slots=True)
class Options:
    endpoints: Path
    state: Path | None  # where the places in files are kept
    look: float  # seconds between two looks at a folder
    follower: str


@dataclass(frozen=True, slots=True)
class _Known:
    """A source and how it is reached; another of either is another worker."""

    followed: Followed
    place: LabelPlace
    properties: str  # a digest of what is replaced when a password or a certificate is


class Follower:
    def __init__(self, client: httpx.Client, options: Options) -> None:
        """Raises InputError where the list of endpoints cannot be used."""
        self._client = client
        self._options = options
        self._workers: dict[_Known, Worker] = {}
        self._ending: dict[_Known, Worker] = {}
        self._tallies: dict[Followed, Tally] = {}
        self._wrong = ""
        try:
            self._endpoints = read_endpoints(options.endpoints)
        except EndpointsInvalid as error:
            raise InputError("--endpoints", str(error), "see docs/labels.md") from error

    def turn(self) -> None:
        """Asks what there is to follow, and does. Raises LedgerError where the ledger does not answer."""
        sources = self._ask()
        self._read_endpoints()
        self._ending = {known: worker for known, worker in self._ending.items() if not worker.ended()}
        wanted = dict(self._wanted(sources))
        for known in self._workers.keys() - wanted.keys():
            worker = self._workers.pop(known)
            worker.stop()
            self._ending[known] = worker
        ending = {known.followed for known in self._ending}
        for known, tally in wanted.items():
            if known not in self._workers and known.followed not in ending:
                worker = self._workers[known] = Worker(tally, partial(self._make, known, tally))
                worker.start()
        self._tallies = {each: tally for each, tally in self._tallies.items() if each in sources}

    def close(self, within: float) -> None:
        """What is being sent is finished, if that takes no longer."""
        for worker in self._workers.values():
            worker.stop()
        for worker in (*self._workers.values(), *self._ending.values()):
            worker.ended(within)

    def tallies(self) -> Iterator[tuple[Followed, Tally]]:
        yield from list(self._tallies.items())

    def _ask(self) -> list[Followed]:
        reports = [
            SourceReport(each.namespace, each.name, each.source, tally.problem, tally.lag, tally.labels, tally.poisoned)
            for each, tally in self.tallies()
        ]
        body = msgspec.json.encode(Following(self._options.follower, reports))
        try:
            answer = self._client.post("/v1/sources", content=body)
            answer.raise_for_status()
            return msgspec.json.decode(answer.content, type=FollowOrders).sources
        except httpx.HTTPStatusError as error:
            words = (
                f"the ledger refuses to say what to follow: {error.response.status_code} {error.response.text[:300]}"
            )
            raise LedgerError(words) from error
        except (httpx.HTTPError, msgspec.DecodeError) as error:
            raise LedgerError(f"the ledger does not answer: {str(error) or type(error).__name__}") from error

    def _wanted(self, sources: list[Followed]) -> Iterator[tuple[_Known, Tally]]:
        chosen = set(in_turn(sources)[:MOST_SOURCES])
        for followed in sources:
            tally = self._tallies.setdefault(followed, Tally(name_of(followed)))
            if followed not in chosen:
                tally.fail(
                    f"{len(sources)} sources are listed, and {MOST_SOURCES} of all namespaces are followed at most"
                )
                continue
            try:
                yield self._allowed(followed, self._endpoints), tally
            except CliError as error:
                tally.fail(str(error))

    def _allowed(self, followed: Followed, endpoints: Endpoints) -> _Known:
        """The operator has looked already; the list may be another since, and here it opens doors."""
        source = followed.source
        types = frozenset({EndpointType(source.kind)})
        found = endpoints.find(followed.namespace, source.endpoint, types)
        if found is None or found.labels is None:
            problem = f"is no endpoint of type {source.kind} that is listed for the namespace {followed.namespace}"
            raise InputError(repr(source.endpoint), problem, "name one that is, or list it")
        wrong = found.labels.problem(source)
        if wrong:
            raise InputError(str(source.kind), wrong, "see the endpoints that the admin lists")
        return _Known(followed, found.labels, digest(found.labels.properties_file))

    def _make(self, known: _Known, tally: Tally, stop: threading.Event) -> Source:
        followed = known.followed
        files = followed.source.kind is SourceKind.FILES
        post = Mailbox(self._client, followed.namespace, followed.name, untyped=files, source=sender_of(followed))
        if files:
            options = self._options
            return FolderFollower(followed, known.place, post, tally, stop, options.state, options.look)
        return TopicFollower(followed, known.place, post, tally, stop)

    def _read_endpoints(self) -> None:
        """A list that cannot be read leaves the last one in force."""
        try:
            self._endpoints = read_endpoints(self._options.endpoints)
            self._wrong = ""
        except EndpointsInvalid as error:
            if str(error) != self._wrong:
                log.error("the endpoints stay as they were: %s", error)
            self._wrong = str(error)


def in_turn(sources: Sequence[Followed]) -> list[Followed]:
    """The first source of each namespace, then the second of each, and so on."""
    seen: Counter[str] = Counter()
    turns = []
    for followed in sources:
        turns.append(seen[followed.namespace])
        seen[followed.namespace] += 1
    return [followed for _, followed in sorted(zip(turns, sources, strict=True), key=lambda each: each[0])]


def sender_of(followed: Followed) -> str:
    """What stands beside its labels as their sender."""
    source = followed.source
    return f"{source.kind}:{source.endpoint}/{source.place}"


def name_of(followed: Followed) -> str:
    return f"{followed.namespace}/{followed.name} {sender_of(followed)}"
