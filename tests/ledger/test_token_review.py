"""Answers of the Kubernetes API are remembered for as long as they may be, and never taken for more than they say."""

import asyncio
import base64
import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from modelcanary_ledger import token_review
from modelcanary_ledger.errors import NotReviewed, Unauthorized
from modelcanary_ledger.kube_api import KubeApi
from modelcanary_ledger.rights import Call, Kind
from modelcanary_ledger.token_review import Identity, ReviewLimits, TokenReview

OPERATOR = "system:serviceaccount:modelcanary:operator"
NOW = 1_800_000_000.0


def token(name: str, *, audience: str | list[str] = "modelcanary-ledger", expires: float = NOW + 3600) -> str:
    claims = base64.urlsafe_b64encode(json.dumps({"aud": audience, "exp": expires, "sub": name}).encode())
    return f"head.{claims.decode().rstrip('=')}.{name}"


class FakeApi:
    """Knows tokens by name; `trouble` is what it raises instead."""

    def __init__(self) -> None:
        self.known: dict[str, Identity] = {}
        self.trouble: Exception | None = None
        self.asked: list[str] = []
        self.gate: asyncio.Event | None = None

    async def review(self, given: str) -> Identity | None:
        name = given.rpartition(".")[2]
        self.asked.append(name)
        if self.gate is not None:
            await self.gate.wait()
        if self.trouble is not None:
            raise self.trouble
        return self.known.get(name)

    async def close(self) -> None: ...


class World:
    def __init__(self, limits: ReviewLimits | None = None) -> None:
        self.now = NOW
        self.api = FakeApi()
        self.api.known["job"] = Identity("system:serviceaccount:team:job", "")
        self.review = TokenReview(self.api, frozenset({OPERATOR}), lambda: self.now, limits)

    def whose(self, name: str, **changes: object) -> object:
        return asyncio.run(self.review.review(token(name, **changes)))  # type: ignore[arg-type]


@pytest.fixture
def world() -> World:
    return World()


def test_an_account_an_operator_and_a_pod(world: World) -> None:
    world.api.known["op"] = Identity(OPERATOR, "")
    world.api.known["pod"] = Identity("system:serviceaccount:team:default", "fraud-baseline-abc-12345")
    job, operator, pod = (asyncio.run(world.review.review(token(name))) for name in ("job", "op", "pod"))
    assert (job.kind, job.name) == (Kind.ACCOUNT, "system:serviceaccount:team:job")
    assert job.may(Call.FEEDBACK, "team", "fraud")
    assert not job.may(Call.PAIRS, "team", "fraud")
    assert not job.may(Call.FEEDBACK, "other", "fraud")
    assert operator.kind is Kind.OPERATOR
    assert pod.may(Call.PAIRS, "team", "fraud")
    assert not pod.may(Call.PAIRS, "team", "churn")


@pytest.mark.parametrize(
    "username", ["alice", "system:serviceaccount:", "system:serviceaccount:team", "system:node:n1"]
)
def test_who_is_no_service_account_is_not_known(world: World, username: str) -> None:
    world.api.known["x"] = Identity(username, "")
    with pytest.raises(Unauthorized):
        world.whose("x")


def test_an_answer_holds_for_a_while_and_is_asked_for_again(world: World) -> None:
    world.whose("job")
    world.now += 119
    world.whose("job")
    assert world.api.asked == ["job"]
    world.now += 2
    world.whose("job")
    assert world.api.asked == ["job", "job"]
    del world.api.known["job"]  # its pod was deleted
    world.now += 121
    with pytest.raises(Unauthorized):
        world.whose("job")


def test_who_was_known_and_is_refused_is_not_let_in_when_the_api_goes_away(world: World) -> None:
    world.whose("job")
    del world.api.known["job"]
    world.now += 121
    with pytest.raises(Unauthorized):
        world.whose("job")
    world.api.trouble = NotReviewed("down")
    world.now += 11
    with pytest.raises(NotReviewed):
        world.whose("job")


def test_a_refusal_is_remembered_briefly(world: World) -> None:
    for _ in range(2):
        with pytest.raises(Unauthorized):
            world.whose("new")
    assert world.api.asked == ["new"]
    world.api.known["new"] = Identity("system:serviceaccount:team:new", "")
    world.now += 11
    world.whose("new")


def test_a_token_never_outlives_itself(world: World) -> None:
    world.whose("job", expires=NOW + 30)
    world.now += 31
    del world.api.known["job"]
    with pytest.raises(Unauthorized):
        world.whose("job", expires=NOW + 30)


def test_while_the_api_is_away_known_tokens_go_on_until_they_end_and_unknown_ones_wait(world: World) -> None:
    world.whose("job")
    world.api.trouble = NotReviewed("down")
    world.api.known["late"] = Identity("system:serviceaccount:team:late", "")
    world.now += 600  # long after the answer was to be asked for again
    assert world.whose("job") is not None
    with pytest.raises(NotReviewed) as refused:
        world.whose("late")
    assert refused.value.status == 503
    assert refused.value.retry_after
    world.now += 3600
    with pytest.raises(NotReviewed):
        world.whose("job")
    world.api.trouble = None
    world.now += 3
    world.whose("late")


def test_an_api_in_trouble_is_not_asked_for_each_request(world: World) -> None:
    world.api.trouble = NotReviewed("down")
    for name in ("a", "b", "c"):
        with pytest.raises(NotReviewed):
            world.whose(name)
    assert world.api.asked == ["a"]
    assert world.review.outcomes["failed"] == 1


@pytest.mark.parametrize(
    "given",
    [
        "hunter2",
        "a.b.c",
        "a.b!.c",
        "..",
        token("job", audience="https://kubernetes.default.svc"),
        token("job", audience=[]),
        f"head.{base64.urlsafe_b64encode(b'[1]').decode()}.job",
        f"head.{base64.urlsafe_b64encode(b'{}').decode()}.job",
    ],
)
def test_what_the_api_would_refuse_is_not_asked(world: World, given: str) -> None:
    with pytest.raises(Unauthorized) as refused:
        asyncio.run(world.review.review(given))
    assert "kubectl create token" in refused.value.remedy
    assert world.api.asked == []


def test_one_token_shown_by_many_at_once_is_one_question(world: World) -> None:
    async def story() -> None:
        world.api.gate = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(world.review.review(token("job"))) for _ in range(20)]
            while not world.api.asked:
                await asyncio.sleep(0)
            world.api.gate.set()
        assert {task.result().name for task in asked} == {"system:serviceaccount:team:job"}

    asyncio.run(story())
    assert world.api.asked == ["job"]


def test_a_review_that_is_broken_off_leaves_nobody_waiting(world: World) -> None:
    async def story() -> None:
        world.api.gate = asyncio.Event()
        first = asyncio.ensure_future(world.review.review(token("job")))
        while not world.api.asked:
            await asyncio.sleep(0)
        second = asyncio.ensure_future(world.review.review(token("job")))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(NotReviewed):
            await second
        world.api.gate.set()
        assert (await world.review.review(token("job"))).kind is Kind.ACCOUNT

    asyncio.run(story())


def test_questions_and_answers_are_bounded() -> None:
    world = World(ReviewLimits(pending=2, remembered=2, refused=2))
    world.api.known |= {name: Identity(f"system:serviceaccount:team:{name}", "") for name in "abc"}

    async def crowd() -> None:
        world.api.gate = asyncio.Event()
        held = [asyncio.ensure_future(world.review.review(token(name))) for name in "ab"]
        while len(world.api.asked) < 2:
            await asyncio.sleep(0)
        with pytest.raises(NotReviewed, match="too many"):
            await world.review.review(token("c"))
        world.api.gate.set()
        await asyncio.gather(*held)
        world.api.gate = None

    asyncio.run(crowd())
    for name in ("c", "x", "y", "z"):
        try:
            world.whose(name)
        except Unauthorized:
            continue
    # A flood of unknown tokens forgets no known one.
    world.api.asked.clear()
    world.whose("c")
    world.whose("b")
    assert world.api.asked == []
    world.whose("a")
    assert world.api.asked == ["a"]
    assert world.review.outcomes["shed"] == 1
    world.api.asked.clear()
    for name in ("x", "z"):
        with pytest.raises(Unauthorized):
            world.whose(name)
    assert world.api.asked == ["x"]  # of three that were refused, two are remembered


def test_no_token_is_logged_or_kept(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.whose("job")
    world.api.trouble = NotReviewed("down")
    world.now += 300
    world.whose("job")
    with pytest.raises(NotReviewed):
        world.whose("other")
    assert "down" in caplog.text
    shown = [token("job"), token("other")]
    assert not any(secret in caplog.text for secret in shown)
    assert not any(secret in repr(vars(world.review)) for secret in shown)


class TestTheAnswer:
    """What the API says, read strictly: `transport` plays the API server."""

    @pytest.fixture
    def ask(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., object]:
        (tmp_path / "token").write_text("own\n")

        def asked(answer: httpx.Response | Exception) -> object:
            def play(request: httpx.Request) -> httpx.Response:
                assert request.headers["authorization"] == "Bearer own"
                assert json.loads(request.content)["spec"] == {"token": "t", "audiences": ["modelcanary-ledger"]}
                if isinstance(answer, Exception):
                    raise answer
                return answer

            async def story() -> object:
                client = httpx.AsyncClient(transport=httpx.MockTransport(play), base_url="https://api")
                api = KubeApi("https://api", tmp_path)

                async def given() -> httpx.AsyncClient:
                    return client

                monkeypatch.setattr(api, "_client", given)
                try:
                    return await api.review("t")
                finally:
                    await client.aclose()

            return asyncio.run(story())

        return asked

    @staticmethod
    def status(**changes: object) -> httpx.Response:
        found = {
            "authenticated": True,
            "user": {
                "username": "system:serviceaccount:team:job",
                "extra": {"authentication.kubernetes.io/pod-name": ["p"]},
            },
            "audiences": ["modelcanary-ledger"],
        }
        return httpx.Response(201, json={"status": {**found, **changes}})

    def test_a_token_of_our_audience(self, ask: Callable[..., object]) -> None:
        assert ask(self.status()) == Identity("system:serviceaccount:team:job", "p")

    @pytest.mark.parametrize(
        "changes",
        [{"authenticated": False}, {"audiences": []}, {"audiences": ["https://kubernetes.default.svc"]}],
    )
    def test_no_other_is_one(self, ask: Callable[..., object], changes: dict[str, object]) -> None:
        assert ask(self.status(**changes)) is None

    @pytest.mark.parametrize(
        "answer",
        [
            httpx.Response(403, json={"message": "forbidden"}),
            httpx.Response(401),
            httpx.Response(429, headers={"Retry-After": "1"}),
            httpx.Response(500),
            httpx.Response(200, text="<html>"),
            httpx.Response(200, json={"status": {"authenticated": "yes"}}),
            httpx.ConnectError("refused"),
            httpx.ReadTimeout("slow"),
        ],
    )
    def test_trouble_is_neither_yes_nor_no(
        self, ask: Callable[..., object], answer: httpx.Response | Exception
    ) -> None:
        with pytest.raises(NotReviewed):
            ask(answer)

    def test_an_empty_answer_lets_nobody_in(self, ask: Callable[..., object]) -> None:
        assert ask(httpx.Response(200, json={})) is None


def test_the_limits_are_what_the_documentation_says() -> None:
    limits = ReviewLimits()
    assert (limits.known, limits.unknown) == (120.0, 10.0)
    assert token_review.AUDIENCE == "modelcanary-ledger"
