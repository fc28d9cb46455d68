"""The HTTP side: reads requests, hands them to the writer, answers when it has committed.

Made by `main`. Handlers are thin; what a request means is decided in `transaction` and `join`. Errors are problem
documents. It must not touch files or tables.
"""

import logging
import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from modelcanary_gate.protocol import (
    Following,
    FollowOrders,
    Heartbeat,
    Instructions,
    PairBatch,
    PutInstructions,
    SourcesAnswer,
)
from modelcanary_ledger.auth import Callers
from modelcanary_ledger.batches import check_batch
from modelcanary_ledger.client_certificate import STATE
from modelcanary_ledger.core import Evidence, Ledger
from modelcanary_ledger.errors import (
    BadRequest,
    Forbidden,
    LedgerError,
    NotFound,
    NotReviewed,
    TooMany,
    Unauthorized,
)
from modelcanary_ledger.export import export_lines
from modelcanary_ledger.labels import read_labels
from modelcanary_ledger.metrics import Metrics
from modelcanary_ledger.model import IDLE, Standing
from modelcanary_ledger.problems import decode, encoded, is_msgpack, problem, read_body
from modelcanary_ledger.quota import Quota
from modelcanary_ledger.rights import EVERY, Call, Caller, Kind
from modelcanary_ledger.sources import Sources
from modelcanary_ledger.writer import Writer

log = logging.getLogger(__name__)

MAX_BODY = 16 << 20
_SMALL_BODY = 1 << 20

#: What became of a caller; who is refused for what they send was allowed to send it.
_OUTCOMES: dict[type[LedgerError], str] = {
    Unauthorized: "unknown",
    Forbidden: "forbidden",
    NotReviewed: "unreviewed",
    TooMany: "quota",
}
_NUMBER = re.compile(r"\d{1,15}", re.ASCII)
_LONGEST_SENDER = 253
_WHICH = "say which: POST /v1/feedback?namespace=…&name=…"
_SINCE = re.compile(r"\d{1,18}\.\d{1,18}", re.ASCII)

Handler = Callable[[Request], Awaitable[Response]]


class LedgerApp:
    """Handlers over one ledger and its writer."""

    def __init__(self, ledger: Ledger, writer: Writer, callers: Callers, quota: Quota) -> None:
        self._ledger = ledger
        self._writer = writer
        self._callers = callers
        self._quota = quota
        self._sources = Sources(time.monotonic)
        self._metrics = Metrics(writer, callers)
        self._process = secrets.token_hex(4)  # a version of the evidence means something within this process only

    def application(self) -> Starlette:
        model = "/v1/runs/{namespace}/{name}"
        routes = [
            Route(f"{model}/pairs", self._guarded(Call.PAIRS, self.pairs), methods=["POST"]),
            Route(f"{model}/pairs", self._guarded(Call.EXPORT, self.export), methods=["GET"]),
            Route(f"{model}/heartbeat", self._guarded(Call.HEARTBEAT, self.heartbeat), methods=["POST"]),
            Route(f"{model}/references", self._guarded(Call.REFERENCES, self.references), methods=["GET"]),
            Route(f"{model}/evidence", self._guarded(Call.EVIDENCE, self.evidence), methods=["GET"]),
            Route(f"{model}/instructions", self._guarded(Call.INSTRUCTIONS, self.put_instructions), methods=["PUT"]),
            Route(model, self._guarded(Call.INSTRUCTIONS, self.forget), methods=["DELETE"]),
            Route(f"{model}/sources", self._guarded(Call.EVIDENCE, self.sources), methods=["GET"]),
            Route("/v1/sources", self._guarded(Call.SOURCES, self.follow), methods=["POST"]),
            Route("/v1/feedback", self._guarded(Call.FEEDBACK, self.feedback), methods=["POST"]),
            # Seldon's clients have the path built in.
            Route("/api/v1.0/feedback", self._guarded(Call.FEEDBACK, self.feedback), methods=["POST"]),
            Route("/metrics", self.metrics, methods=["GET"]),
            Route("/healthz", self.healthz, methods=["GET"]),
            Route("/readyz", self.readyz, methods=["GET"]),
        ]
        return Starlette(routes=routes, exception_handlers={HTTPException: _http_problem}, lifespan=self._lifespan)

    # --- sidecars

    async def pairs(self, request: Request) -> Response:
        body = await read_body(request, MAX_BODY)
        batch = decode(body, PairBatch, msgpack=is_msgpack(request.headers.get("content-type", "")))
        standing = self._standing(request)
        classes = None if standing is None else self._ledger.classes_of(standing, batch.run)
        if classes is None:  # another ledger over the same store may have been told of it just now
            await self._writer.read(lambda ledger, _: ledger.refresh())
            standing = self._standing(request)
            classes = None if standing is None else self._ledger.classes_of(standing, batch.run)
        if standing is None:
            return encoded(IDLE, request.headers)
        # Pairs of an unknown run are not kept: the instructions in the answer say which run it is now.
        if classes is None:
            if batch.pairs:
                unknown = {"unknownRun": len(batch.pairs)}
                await self._writer.change(lambda change: change.dropped(standing, unknown), model=standing.key)
        else:
            check_batch(batch, classes)
            await self._writer.record(standing, batch)
        return encoded(self._instructions(request), request.headers)

    async def heartbeat(self, request: Request) -> Response:
        body = await read_body(request, _SMALL_BODY)
        decode(body, Heartbeat, msgpack=is_msgpack(request.headers.get("content-type", "")))
        return encoded(self._instructions(request), request.headers)

    async def references(self, request: Request) -> Response:
        standing = self._known(request)
        return encoded(self._ledger.references(standing, request.query_params.get("after", "")), request.headers)

    # --- label senders

    async def feedback(self, request: Request) -> Response:
        caller: Caller = request.state.caller
        standing = self._meant(request, caller)
        sender = _source(request, caller, standing) or caller.sends_as(standing.namespace, standing.name)
        account = (caller.kind, standing.namespace, sender)
        self._quota.admit(account)
        untyped = request.query_params.get("untyped") == "true"
        labels = read_labels(await read_body(request, MAX_BODY), request.headers, standing, untyped=untyped)
        self._quota.charge(account, len(labels))
        counts = await self._writer.change(
            lambda change: change.feedback(standing, labels, sender), rows=len(labels), model=standing.key
        )
        self._metrics.labels(counts)
        return encoded(counts, request.headers, 202)

    async def follow(self, request: Request) -> Response:
        """A follower says how it gets on, and is told what there is to follow."""
        following = decode(await read_body(request, _SMALL_BODY), Following, msgpack=False)
        caller: Caller = request.state.caller
        models = [
            standing
            for standing in self._ledger.standings.values()
            if caller.may(Call.SOURCES, standing.namespace, standing.name)
        ]
        return encoded(FollowOrders(self._sources.exchange(following, models, caller)), request.headers)

    # --- operator, cli, page

    async def sources(self, request: Request) -> Response:
        standing = self._known(request)
        return encoded(SourcesAnswer(self._sources.of(standing)), request.headers)

    async def put_instructions(self, request: Request) -> Response:
        put = decode(await read_body(request, _SMALL_BODY), PutInstructions, msgpack=False)
        namespace, name = request.path_params["namespace"], request.path_params["name"]
        instructions = await self._writer.change(
            lambda change: change.put(namespace, name, put), model=(namespace, name)
        )
        return encoded(instructions, request.headers)

    async def forget(self, request: Request) -> Response:
        """A ModelCanary is deleted: its senders at once, its evidence when no label is waited for any more."""
        epoch = request.query_params.get("epoch", "")
        if not _NUMBER.fullmatch(epoch):
            raise BadRequest(f"epoch is {epoch!r}", field="epoch", remedy="write the leader's epoch, ?epoch=7")
        namespace, name = request.path_params["namespace"], request.path_params["name"]
        await self._writer.change(lambda change: change.forget(namespace, name, int(epoch)), model=(namespace, name))
        return encoded(IDLE, request.headers)

    async def evidence(self, request: Request) -> Response:
        standing = self._known(request)
        run, since = request.query_params.get("run"), _since(request.query_params.get("since", "0.0"))
        unclosed = request.query_params.get("unclosed") == "true"

        def look(ledger: Ledger, now: float) -> tuple[str, Evidence]:
            fresh = ledger.standings[standing.namespace, standing.name]
            tag = f'"{ledger.evidence_version(fresh, run)}.{since[0]}.{since[1]}.{unclosed:d}.{self._process}"'
            return tag, ledger.evidence(fresh, run, since, now, unclosed=unclosed)

        tag, evidence = await self._writer.read(look)
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers={"ETag": tag})
        response = encoded(evidence, request.headers)
        response.headers["ETag"] = tag
        return response

    async def export(self, request: Request) -> Response:
        wanted = request.query_params.get("format", "ndjson")
        if wanted != "ndjson":
            raise BadRequest(f"format is {wanted!r}", field="format", remedy="ask for format=ndjson")
        standing, run = self._known(request), request.query_params.get("run")

        def find(ledger: Ledger, _: float) -> tuple[int, str]:
            fresh = ledger.standings[standing.namespace, standing.name]
            return ledger.run_number(fresh, run), run or fresh.instructions.run

        number, name = await self._writer.read(find)
        return StreamingResponse(export_lines(self._ledger.slices(number), name), media_type="application/x-ndjson")

    # --- cluster

    async def healthz(self, _: Request) -> Response:
        return Response(
            b"ok\n" if self._writer.alive else b"the writer has ended\n", 200 if self._writer.alive else 503
        )

    async def readyz(self, request: Request) -> Response:
        return await self.healthz(request)

    async def metrics(self, _: Request) -> Response:
        return Response(self._metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    # --- inside

    def _guarded(self, call: Call, handler: Handler) -> Handler:
        """Knows the caller and what they may do, and turns our errors into problem documents.

        Labels name their model in the query, if at all: `_meant` finds it among those that the caller may send to.
        A follower names none: it is told of those that it may follow.
        """

        async def answer(request: Request) -> Response:
            kind = "none"
            try:
                certificate = getattr(request.state, STATE, None)
                caller = await self._callers.identify(request.headers.get("authorization"), certificate)
                kind, request.state.caller = str(caller.kind), caller
                if call is Call.SOURCES:
                    caller.require_some(call)
                elif call is not Call.FEEDBACK:
                    caller.require(call, request.path_params["namespace"], request.path_params["name"])
                response = await handler(request)
            except LedgerError as error:
                self._metrics.refused(error.status)
                self._metrics.caller(kind, _OUTCOMES.get(type(error), "allowed"))
                return problem(error)
            self._metrics.caller(kind, "allowed")
            return response

        return answer

    def _standing(self, request: Request) -> Standing | None:
        return self._ledger.standings.get((request.path_params["namespace"], request.path_params["name"]))

    def _known(self, request: Request) -> Standing:
        standing = self._standing(request)
        if standing is None:
            raise NotFound(
                f"nothing is known of {request.path_params['namespace']}/{request.path_params['name']}",
                remedy="put its instructions first",
            )
        return standing

    def _instructions(self, request: Request) -> Instructions:
        standing = self._standing(request)
        return IDLE if standing is None else standing.instructions

    def _meant(self, request: Request, caller: Caller) -> Standing:
        """The model that labels are for: by `namespace` and `name`, or the only one that the caller may send to."""
        namespace, name = request.query_params.get("namespace"), request.query_params.get("name")
        if caller.kind is Kind.CERTIFICATE and not (namespace and name):
            # Anyone may list a name that is in a certificate: another team's list must not stop who sends to this one.
            raise BadRequest(
                "who sends by certificate says whom the labels are for",
                field="name" if namespace else "namespace",
                remedy=_WHICH,
            )
        found = [
            standing
            for standing in self._ledger.standings.values()
            if namespace in (None, standing.namespace)
            and name in (None, standing.name)
            and caller.may(Call.FEEDBACK, standing.namespace, standing.name)
        ]
        if len(found) == 1:
            return _open_to(caller, found[0])
        if namespace is not None and not found:
            caller.require(Call.FEEDBACK, namespace, name or EVERY)
        raise NotFound(
            f"{len(found) or 'no'} models are known by namespace={namespace or '*'} name={name or '*'}",
            field="name" if namespace else "namespace",
            remedy=_WHICH
            if found
            else "check namespace and name; a ModelCanary is known here once its target is adopted: send again then",
        )

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        self._writer.start()
        try:
            yield
        finally:
            await self._callers.close()
            await self._writer.stop()
            self._ledger.close()


def _open_to(caller: Caller, standing: Standing) -> Standing:
    """Where a ModelCanary lists its senders, a ServiceAccount of its namespace is none of them."""
    if standing.senders and caller.kind is Kind.ACCOUNT:
        raise Forbidden(
            f"{standing.namespace}/{standing.name} takes labels from those alone whom labels.senders lists",
            field="labels.senders",
            remedy="use a token whose hash is listed there; without a list, ServiceAccounts of the namespace may send",
        )
    return standing


def _source(request: Request, caller: Caller, standing: Standing) -> str:
    """The source that a follower reads stands beside its labels as their sender; empty where it says none."""
    source = request.query_params.get("source", "")
    if source:
        caller.require(Call.SOURCES, standing.namespace, standing.name)
    return source[:_LONGEST_SENDER]


def _since(text: str) -> tuple[int, int]:
    loss, _, traffic = text.partition(".")
    if not _SINCE.fullmatch(text):
        raise BadRequest(
            f"since is {text!r}", field="since", remedy="write the `next` of an earlier answer, such as 12.40"
        )
    return int(loss), int(traffic)


async def _http_problem(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    detail = error.detail if isinstance(error, HTTPException) else "the ledger failed"
    body = {"type": "about:blank", "title": detail, "status": status, "detail": detail}
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    return Response(msgspec.json.encode(body), status, headers, media_type="application/problem+json")
