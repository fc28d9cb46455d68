"""Real scoring over HTTP: what a server says of a text is what its model makes of it, or there is a typed reason."""

import asyncio
import json
import math
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.sidecar.llm.language_model import LanguageModel, Served, serving, template

from modelcanary_gate.vocabulary import Outcome, Role
from modelcanary_sidecar.capture import Captured, LiveAnswer
from modelcanary_sidecar.llm.prompt import Prompt, prompt_of
from modelcanary_sidecar.llm.server import Asking, Result, Score, Server
from modelcanary_sidecar.llm.session import settle
from modelcanary_sidecar.shadow import Shadow, ShadowLimits

HEADERS = b"Host: model\r\nContent-Type: application/json\r\nX-ModelCanary-Shadow: 1\r\n"
NOBODY = LiveAnswer(None, 200, 0.1, b"", b"{}")


def asked(path: str, body: dict[str, Any], answer: LiveAnswer = NOBODY) -> Captured:
    return Captured("h1", False, 1.0, "run", b"POST", path.encode(), HEADERS, json.dumps(body).encode(), answer)


def completion(text: str, **more: Any) -> Prompt:
    prompt = prompt_of(asked("/v1/completions", {"model": "tiny", "prompt": text, **more}), 1 << 20)
    assert isinstance(prompt, Prompt)
    return prompt


def chat(text: str, **more: Any) -> Prompt:
    body = {"model": "tiny", "messages": [{"role": "user", "content": text}], **more}
    prompt = prompt_of(asked("/v1/chat/completions", body), 1 << 20)
    assert isinstance(prompt, Prompt)
    return prompt


def asking(
    url: str, work: Callable[[Server], Awaitable[Any]], patch: dict[str, object] | None = None, patience: float = 10.0
) -> Any:
    """What becomes of the work with the server there; `patience`: seconds for each answer, thrice for all."""

    async def run() -> Any:
        address = urlsplit(url)
        limits = ShadowLimits(timeout=patience, connections=4, body_bytes=1 << 22)
        pool = Shadow[Asking](address.hostname or "", address.port or 0, limits, settle, settle)
        async with asyncio.timeout(3 * patience), asyncio.TaskGroup() as tasks:
            tasks.create_task(pool.run())
            try:
                return await work(Server(Role.BASELINE, pool, b"", patch, 1 << 22))
            finally:
                pool.stop()

    return asyncio.run(run())


def with_server(
    served: Served, work: Callable[[Server], Awaitable[Any]], patch: dict[str, object] | None = None
) -> Any:
    with serving(served):
        return asking(served.url, work, patch)


def score_of(served: Served, prompt: Prompt, reference: str, patch: dict[str, object] | None = None) -> Result:
    result = with_server(served, lambda server: server.score(prompt, reference), patch)
    assert isinstance(result, Result)
    return result


@pytest.mark.parametrize("ignores", [frozenset(), frozenset({"prompt_logprobs"})])
@pytest.mark.parametrize(
    ("prompt", "reference"),
    [
        ("Q: What is the capital of France? A:", " Paris."),
        ("The capital of Italy is", " Rome. The capital of France is Paris."),
        ("Über den Wolken", " ist die Freiheit grenzenlos; ça va"),  # characters of two tokens
        ("東京は", "日本の首都です。"),
        ("capital o", "f France"),  # the tokenizer cuts across the boundary
    ],
)
def test_a_completion_is_scored_as_the_model_has_it(prompt: str, reference: str, ignores: frozenset[str]) -> None:
    served = Served(ignores=ignores)
    result = score_of(served, completion(prompt), reference)
    loss, tokens = served.model.loss(prompt, reference)
    assert isinstance(result.said, Score)
    assert result.said.tokens == tokens
    assert math.isclose(result.said.loss, loss, rel_tol=1e-9)
    assert all(body["stream"] is False and body["max_tokens"] == 1 for body in served.scorings())


def test_a_chat_is_scored_behind_the_servers_own_template() -> None:
    served = Served()
    result = score_of(served, chat("What is the capital of Italy?"), "Rome.")
    before = template([{"role": "user", "content": "What is the capital of Italy?"}], generation=True, continued=False)
    loss, tokens = served.model.loss(before, "Rome.")
    assert isinstance(result.said, Score)
    assert (result.said.tokens, round(result.said.loss, 9)) == (tokens, round(loss, 9))


def test_one_call_is_enough_where_texts_of_tokens_add_up() -> None:
    served = Served()
    calls = []

    async def both(server: Server) -> None:
        for reference in (" Paris.", " Rome"):
            before = len(served.scorings())
            await server.score(completion("The capital is"), reference)
            calls.append(len(served.scorings()) - before)

    with_server(served, both)
    assert calls == [2, 1]  # the first probes; both are clean texts


def test_characters_cut_into_tokens_take_a_second_call() -> None:
    served = Served(LanguageModel(merges=0))
    result = score_of(served, completion("The capital is"), " ça")
    assert isinstance(result.said, Score)
    assert math.isclose(result.said.loss, served.model.loss("The capital is", " ça")[0])
    assert [body["prompt"] for body in served.scorings()][-2:] == ["The capital is ça", "The capital is"]


@pytest.mark.parametrize("way", [chat, completion])
def test_a_server_that_ignores_what_it_is_asked_is_found_out(way: Callable[[str], Prompt]) -> None:
    served = Served(ignores=frozenset({"prompt_logprobs", "echo"}))
    result = score_of(served, way("The capital is"), " Paris")
    assert getattr(result.said, "outcome", None) is Outcome.NO_PROMPT_LOGPROBS
    assert "ignored" in getattr(result.said, "message", "")
    assert all("The capital of France" in json.dumps(body) for body in served.scorings()), "no user's text was sent"


def test_a_server_that_refuses_is_asked_by_echo() -> None:
    served = Served(refuses=frozenset({"prompt_logprobs"}))
    assert isinstance(score_of(served, completion("The capital is"), " Paris").said, Score)
    result = score_of(Served(refuses=frozenset({"prompt_logprobs"})), chat("hi"), " Paris")
    assert getattr(result.said, "outcome", None) is Outcome.NO_PROMPT_LOGPROBS


def test_a_template_that_does_not_go_on_with_the_answer_is_found_out() -> None:
    result = score_of(Served(ignores=frozenset({"continue_final_message"})), chat("hi"), "Paris")
    assert getattr(result.said, "outcome", None) is Outcome.NO_PROMPT_LOGPROBS
    assert "does not end with" in getattr(result.said, "message", "")


def test_a_failing_server_is_no_server_that_cannot_score() -> None:
    served = Served(status=503)

    async def twice(server: Server) -> list[Any]:
        first = await server.score(completion("The capital is"), " Paris")
        served.status = 200
        return [first.said, (await server.score(completion("The capital is"), " Paris")).said]

    first, second = with_server(served, twice)
    assert first.outcome is Outcome.ERROR_STATUS
    assert isinstance(second, Score)


def test_the_name_is_the_servers_own_where_it_has_another() -> None:
    assert isinstance(score_of(Served(name="new"), completion("The capital is"), " Paris").said, Score)


def test_request_patch_is_merged_into_scoring_requests() -> None:
    served = Served()
    score_of(served, completion("The capital is"), " Paris", {"add_special_tokens": False})
    assert all(body["add_special_tokens"] is False for body in served.scorings())


def test_what_it_read_is_counted() -> None:
    served = Served()
    result = score_of(served, completion("The capital is"), " Paris")
    sent = sum(len(served.model.encode(body["prompt"])) + 1 for body in served.scorings())
    assert result.spent == sent
    assert result.latency > 0
