"""Budget, memory, and what is read out of bodies, one by one."""

import gzip
import json
import tracemalloc
from typing import Any

import pytest

from modelcanary_gate.vocabulary import Outcome
from modelcanary_sidecar.capture import Captured, LiveAnswer
from modelcanary_sidecar.decoding.unreadable import Unread
from modelcanary_sidecar.llm.budget import Budget
from modelcanary_sidecar.llm.memory import Kept, Memory
from modelcanary_sidecar.llm.prompt import Prompt, Unfit, answer_of, prompt_of
from modelcanary_sidecar.llm.scoring import Tokens, Way, loss_from, read, start_by_prompt, start_by_text

CAP = 1 << 20


def captured(path: str, body: Any, answer: bytes = b"{}", status: int = 200, coding: bytes = b"") -> Captured:
    data = json.dumps(body).encode()
    headers = b"Content-Encoding: %b\r\n" % coding if coding else b""
    if coding:
        data = gzip.compress(data)
    said = LiveAnswer(None, status, 0.1, b"", answer)
    return Captured("h1", False, 1.0, "run", b"POST", path.encode(), headers, data, said)


def test_the_budget_goes_into_debt_and_pays_it_off() -> None:
    budget = Budget(100.0, 0.0)
    assert budget.wait(0.0) == 0.0
    budget.spend(600.0)  # however long, while there is anything left
    assert budget.wait(0.0) == 5.0
    assert budget.wait(4.0) == 1.0
    assert budget.wait(5.5) == 0.0
    assert budget.wait(1000.0) == 0.0
    budget.spend(99.0)  # a rest does not add up beyond a second's worth
    assert budget.wait(1000.0) == 0.0
    budget.spend(1.0)
    assert 0.0 < budget.wait(1000.0) < 0.01


def kept(id: str, size: int) -> Kept:
    return Kept(id, 1.0, Prompt(b"", b"", False, "", b"x" * size))


def test_prompts_are_forgotten_oldest_first_and_ids_are_not_mixed_up() -> None:
    memory = Memory(most_bytes=3100)
    assert [memory.keep(kept(id, 400)) for id in ("a", "b", "c", "d")] == [0, 0, 0, 1]
    assert memory.take("a") is None
    assert memory.keep(kept("b", 1)) == 1, "the first prompt of an id stays"
    assert memory.keep(kept("e", 4000)) == 1, "what is too large is not kept at the cost of all others"
    assert len(memory) == 3
    found = memory.take("b")
    assert found is not None and len(found.prompt.asked) == 400
    assert memory.take("b") is None
    for id in ("c", "d"):
        memory.take(id)
    assert memory.bytes == 0


def test_references_that_come_early_are_held_in_bounds() -> None:
    memory = Memory()
    memory.keep_early("a", "text", 0.0)
    memory.keep_early("b", "text", 61.0)
    assert (memory.take_early("a"), memory.take_early("b"), memory.take_early("b")) == (None, "text", None)
    assert sum(memory.keep_early(str(number), "text", 62.0) for number in range(300)) == 300 - 256
    assert memory.take_early("0") is None
    assert memory.take_early("299") == "text"


def test_references_that_come_early_are_held_in_bytes() -> None:
    """262,144 characters are 1 MiB where one of them is beyond the Basic Multilingual Plane."""
    memory = Memory()
    text = "a" * 262_143 + "\N{GRINNING FACE}"
    assert [memory.keep_early(str(number), text, 0.0) for number in range(6)] == [0, 0, 0, 1, 1, 1]
    assert memory.early_bytes < 4 << 20
    assert memory.take_early("2") is None
    assert memory.take_early("5") == text
    assert memory.keep_early("big", "a" * (5 << 20), 0.0) == 1
    assert memory.take_early("4") == text, "what is too large is not kept at the cost of all others"
    assert memory.keep_early("late", "text", 61.0) == 0, "those whose time is over are not lost"
    assert memory.take_early("late") == "text"
    assert memory.early_bytes == 0


def test_the_first_of_two_references_stays() -> None:
    memory = Memory()
    memory.keep_early("a", "Paris.", 0.0)
    memory.keep_early("a", "Rome.", 1.0)
    assert memory.take_early("a") == "Paris."


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_a_compressed_prompt_takes_the_room_that_it_takes(path: str) -> None:
    """Neither words nor the emptiest JSON: what is kept is as large as it says."""
    tracemalloc.start()
    try:
        memory = Memory(most_bytes=4 << 20)
        before, _ = tracemalloc.get_traced_memory()
        forgotten = 0
        for number in range(12):
            filler = [[] for _ in range(60_000)] if number == 7 else "a" * 600_000 + "\N{GRINNING FACE}"
            message = {"role": "user", "content": "hi", "x": filler}
            body = {"prompt": "a" * 600_000 + "\N{GRINNING FACE}"} if "chat" not in path else {"messages": [message]}
            one = captured(path, body, coding=b"gzip")
            assert len(one.body) < 10_000
            prompt = prompt_of(one, CAP)
            assert isinstance(prompt, Prompt)
            forgotten += memory.keep(Kept(str(number), 1.0, prompt))
            del filler, message, body, one, prompt
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert forgotten >= 5
    assert memory.bytes <= 4 << 20
    assert after - before < 4 << 20


@pytest.mark.parametrize(
    ("path", "body", "unfit"),
    [
        ("/v1/embeddings", {"input": "a"}, Unfit.PATH),
        ("/v1/completions", {"prompt": [1, 2]}, Unfit.PROMPT),
        ("/v1/completions", {"prompt": ""}, Unfit.PROMPT),
        ("/v1/completions", {"prompt": "a", "suffix": "b"}, Unfit.PROMPT),
        ("/v1/completions", ["a"], Unfit.PROMPT),
        ("/v1/chat/completions", {"messages": []}, Unfit.PROMPT),
        ("/v1/chat/completions", {"messages": [{"role": "assistant", "content": "a"}]}, Unfit.PROMPT),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, Unfit.PROMPT),
        ("/v1/chat/completions", {"messages": ["a"]}, Unfit.PROMPT),
    ],
)
def test_what_is_no_text_is_no_prompt(path: str, body: Any, unfit: Unfit) -> None:
    assert prompt_of(captured(path, body), CAP) is unfit


def test_prompts_are_read_compressed_and_with_what_the_template_reads() -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]
    body = {"model": "m", "messages": messages, "tools": [{"type": "function"}], "temperature": 1}
    prompt = prompt_of(captured("/openai/v1/chat/completions?a=1", body, coding=b"gzip"), CAP)
    assert isinstance(prompt, Prompt)
    assert (prompt.chat, prompt.base, prompt.model, prompt.headers) == (True, b"/openai/v1", "m", b"")
    assert prompt.body() == {"messages": messages, "tools": [{"type": "function"}]}
    assert prompt.size > len(json.dumps(body)) - 50


def events(*said: Any, done: bool = True) -> bytes:
    lines = [b"data: " + json.dumps(one).encode() + b"\n\n" for one in said]
    return b": ping\n\n" + b"".join(lines) + (b"data: [DONE]\n\n" if done else b"")


def delta(**said: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": said}]}


STREAMED = (delta(role="assistant"), delta(content="Pa"), delta(content="ris"), {"choices": [], "usage": {}})


@pytest.mark.parametrize(
    ("body", "answer", "text"),
    [
        ({}, json.dumps({"choices": [{"index": 0, "text": "Paris"}]}).encode(), "Paris"),
        ({}, json.dumps({"choices": [{"message": {"content": "Paris", "tool_calls": []}}]}).encode(), "Paris"),
        ({}, json.dumps({"choices": [{"message": {"content": None, "tool_calls": [{}]}}]}).encode(), Unfit.ANSWER),
        ({}, json.dumps({"choices": [{"message": {"content": "a", "reasoning": "b"}}]}).encode(), Unfit.ANSWER),
        ({}, json.dumps({"choices": [{"text": "a"}, {"text": "b"}]}).encode(), Unfit.ANSWER),
        ({}, b"<html>", Unfit.ANSWER),
        ({"echo": True}, json.dumps({"choices": [{"text": "Paris"}]}).encode(), Unfit.ANSWER),
        ({"stream": True}, events(*STREAMED), "Paris"),
        ({"stream": True}, events(*STREAMED).replace(b"\n", b"\r\n"), "Paris"),
        ({"stream": True}, events(*STREAMED, done=False), Unfit.ANSWER),
        ({"stream": True}, events(delta(tool_calls=[{}]), *STREAMED), Unfit.ANSWER),
    ],
)
def test_the_answers_text(body: Any, answer: bytes, text: str | Unfit) -> None:
    assert answer_of(captured("/v1/completions", {"prompt": "a", **body}, answer), CAP) == text


def test_no_answer_is_no_text() -> None:
    assert answer_of(captured("/v1/completions", {"prompt": "a"}, b"{}", status=500), CAP) is Unfit.ANSWER


def said(value: Any) -> LiveAnswer:
    return LiveAnswer(None, 200, 0.1, b"", json.dumps(value).encode())


#: Not captured from the wire: the shapes of vLLM's `ChatCompletionResponse` and `CompletionResponse`, by its source.
PROMPT_LOGPROBS = [
    None,
    {"791": {"logprob": -2.5, "rank": 3, "decoded_token": "The"}, "1": {"logprob": -0.1, "rank": 1}},
    {"12366": {"logprob": -0.25, "rank": 1, "decoded_token": " Paris"}},
]
USAGE = {"prompt_tokens": 3, "completion_tokens": 1}


@pytest.mark.parametrize(
    "value",
    [
        {"choices": [{"message": {}}], "prompt_logprobs": PROMPT_LOGPROBS, "usage": USAGE},
        {"choices": [{"text": "!", "prompt_logprobs": PROMPT_LOGPROBS}], "usage": USAGE},
    ],
)
def test_prompt_logprobs_are_read_where_vllm_has_them(value: Any) -> None:
    tokens = read(Way.PROMPT_LOGPROBS, said(value), CAP)
    assert isinstance(tokens, Tokens)
    assert tokens.logprobs == [None, -2.5, -0.25]
    assert start_by_text(tokens, " Paris") == 2
    assert loss_from(tokens, 2) == 0.25
    assert isinstance(loss_from(tokens, 0), Unread)


@pytest.mark.parametrize(
    ("way", "value", "outcome"),
    [
        (Way.PROMPT_LOGPROBS, {"choices": [{}], "usage": USAGE}, Outcome.NO_PROMPT_LOGPROBS),
        (Way.PROMPT_LOGPROBS, {"choices": [{"prompt_logprobs": PROMPT_LOGPROBS}]}, Outcome.NO_PROMPT_LOGPROBS),
        (Way.PROMPT_LOGPROBS, {"error": "no"}, Outcome.UNDECODABLE),
        # llama.cpp's server: numbers of the one token that it made.
        (Way.ECHO, {"choices": [{"logprobs": {"content": [{"logprob": -1}]}}], "usage": USAGE}, "noPromptLogprobs"),
        (
            Way.ECHO,
            {"choices": [{"logprobs": {"tokens": ["!"], "token_logprobs": [-1.0]}}], "usage": USAGE},
            Outcome.NO_PROMPT_LOGPROBS,
        ),
        (
            Way.ECHO,
            {
                "choices": [{"logprobs": {"tokens": ["a", "b", "c", "d"], "token_logprobs": [None, "x", -1, -1]}}],
                "usage": USAGE,
            },
            Outcome.UNDECODABLE,
        ),
    ],
)
def test_what_is_not_there_is_not_made_up(way: Way, value: Any, outcome: str) -> None:
    unread = read(way, said(value), CAP)
    assert isinstance(unread, Unread)
    assert unread.outcome == outcome


def test_llama_cpp_python_leaves_the_first_token_out() -> None:
    found = {"tokens": ["a", "b", "!"], "token_logprobs": [None, -1.0, -2.0]}
    value = {"choices": [{"logprobs": found}], "usage": USAGE}  # 3 of the prompt, BOS among them, and 1 more
    tokens = read(Way.ECHO_WITHOUT_BOS, said(value), CAP)
    assert isinstance(tokens, Tokens)
    assert (tokens.texts, tokens.logprobs, tokens.more) == (["a", "b"], [None, -1.0], 1)
    assert isinstance(read(Way.ECHO, said(value), CAP), Unread)
    assert isinstance(read(Way.ECHO_WITHOUT_BOS, said({"choices": [{"logprobs": found}]}), CAP), Unread)


def test_where_the_reference_begins() -> None:
    tokens = Tokens(["1", "2", "3"], ["a b", " c", "d"], [None, -1.0, -2.0])
    assert start_by_text(tokens, "cd") == 1, "the token across the boundary counts"
    assert start_by_text(tokens, " cd") == 1
    assert start_by_text(tokens, "x") is None
    cut = Tokens(["1", "2", "3"], ["a", "", "\N{GRINNING FACE}"], [None, -1.0, -2.0])
    assert start_by_text(cut, "\N{GRINNING FACE}") is None, "as vLLM says it: its first bytes are the token before"
    assert start_by_prompt(tokens, Tokens(["1", "9"], ["a b", " "], [None, -1.0])) == 1
    lost = loss_from(Tokens(["1", "2"], ["a", "b"], [None, float("nan")]), 1)
    assert isinstance(lost, Unread)
    assert lost.outcome is Outcome.NON_FINITE
