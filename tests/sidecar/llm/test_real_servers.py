"""Real servers: what our code makes of their answers is what the models' weights say, computed by numpy beside them.

llama-cpp-python and llama.cpp's own server run here, with models made by `tiny_llama`. vLLM does not: its part of these
tests replays what vLLM 0.32.0 answered to the very same requests, recorded byte for byte (`captures/`).
"""

import http.client
import json
import math
import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from tests.sidecar.llm import test_server
from tests.sidecar.llm.real_servers import Bench, llama_cpp, llama_cpp_python, name_of, vllm
from tests.sidecar.llm.test_end_to_end import PATHS, loss_in, stand_at, until
from tests.sidecar.llm.test_server import chat, completion
from tests.sidecar.llm.tiny_llama import in_chat
from tests.sidecar.llm.wire import Exchange, Wire

from modelcanary_gate.vocabulary import Outcome
from modelcanary_sidecar.llm.prompt import Prompt
from modelcanary_sidecar.llm.server import Result, Score, Server

pytestmark = [pytest.mark.servers, pytest.mark.timeout(900)]

CLOSE = 1e-4  # nats, of a whole reference
QUESTION = "The capital of France is"
TEXTS = [
    (QUESTION, " Paris."),
    ("Q: What is the capital of Italy? A:", " Rome. Q: What is the capital of France? A: Paris."),
    ("Über den Wolken", " ist die Freiheit grenzenlos; ça va"),  # characters of several tokens
    ("merci. ", "東京は日本の首都です。"),  # the reference begins within a character's tokens, as vLLM says them
    ("Das ist ", "\N{GRINNING FACE} und é"),
    ("The capital o", "f France"),  # the tokenizer cuts across the boundary
]
BENCHES = {"llama-cpp-python": llama_cpp_python, "vllm": vllm, "llama.cpp": llama_cpp}


@pytest.fixture(scope="module", params=["llama-cpp-python", "vllm"])
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """One that can score. What was asked of a recorded one and is not in its captures fails here."""
    with BENCHES[request.param](tmp_path_factory.mktemp("servers")) as found:
        yield found
        assert [wire.unknown for wire in found.wires.values() if wire.unknown] == []


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """llama.cpp's own server."""
    with llama_cpp(tmp_path_factory.mktemp("servers")) as found:
        yield found


def asking(wire: Wire, work: Callable[[Server], Awaitable[Any]], patch: dict[str, object] | None = None) -> Any:
    return test_server.asking(wire.url, work, patch, patience=60.0)


def score_of(wire: Wire, prompt: Prompt, reference: str, patch: dict[str, object] | None = None) -> Result:
    found = asking(wire, lambda server: server.score(prompt, reference), patch)
    assert isinstance(found, Result)
    return found


def refusal(wire: Wire, prompt: Prompt, patch: dict[str, object] | None = None) -> tuple[Outcome, str]:
    said = score_of(wire, prompt, " Paris.", patch).said
    assert not isinstance(said, Score)
    return getattr(said, "outcome", None), getattr(said, "message", "")  # type: ignore[return-value]


# what one server says


@pytest.mark.parametrize("role", ["baseline", "candidate", "other"])
def test_a_completions_loss_is_what_the_weights_say(bench: Bench, role: str) -> None:
    model = bench.model(role)

    async def each(server: Server) -> list[Result]:
        return [await server.score(completion(prompt), reference) for prompt, reference in TEXTS]

    for (prompt, reference), result in zip(TEXTS, asking(bench.wire(role), each), strict=True):
        loss, tokens = model.loss(prompt, reference)
        assert isinstance(result.said, Score), result.said
        assert (result.said.tokens, reference) == (tokens, reference)
        assert abs(result.said.loss - loss) < CLOSE, (prompt, reference)


def test_a_chats_loss_is_that_behind_the_models_own_template(bench: Bench) -> None:
    prompt = chat("What is the capital of Italy?")
    if not bench.chats:
        outcome, message = refusal(bench.wire("baseline"), prompt)
        assert (outcome, "ignored" in message) == (Outcome.NO_PROMPT_LOGPROBS, True)
        return
    result = score_of(bench.wire("baseline"), prompt, "Rome.")
    loss, tokens = bench.model("baseline").loss(in_chat("What is the capital of Italy?"), "Rome.", chat=True)
    assert isinstance(result.said, Score)
    assert result.said.tokens == tokens
    assert abs(result.said.loss - loss) < CLOSE


def test_a_model_without_a_first_token_of_its_own(bench: Bench) -> None:
    """llama-cpp-python's numbers of such a model are those of the places behind: it must not be believed."""
    model, wire = bench.model("bare"), bench.wire("bare")
    if bench.kind == "llama-cpp-python":
        assert refusal(wire, completion(QUESTION))[0] is Outcome.NO_PROMPT_LOGPROBS
        # Where the model ends the text at once there are as many numbers as tokens, and all of them look right.
        ending = {"logit_bias": {"0": 100}}
        assert refusal(wire, completion(QUESTION), ending)[0] is Outcome.NO_PROMPT_LOGPROBS
        ended = next(e for e in wire.exchanges() if e.asked and "logit_bias" in e.asked and e.asked.get("echo"))
        said = json.loads(ended.body)
        assert len(said["choices"][0]["logprobs"]["tokens"]) == said["usage"]["prompt_tokens"]
        return
    result = score_of(wire, completion(QUESTION), " Paris.")
    assert isinstance(result.said, Score)
    assert abs(result.said.loss - model.loss(QUESTION, " Paris.")[0]) < CLOSE


def test_what_is_too_long_is_an_error_and_no_lack_of_ability(bench: Bench) -> None:
    async def both(server: Server) -> list[Any]:
        first = await server.score(completion(QUESTION), " Paris, Rome." * 300)
        return [first.said, (await server.score(completion(QUESTION), " Paris.")).said, server.capable]

    first, second, capable = asking(bench.wire("baseline"), both)
    assert (first.outcome, capable) == (Outcome.ERROR_STATUS, True)
    assert isinstance(second, Score)


@pytest.mark.parametrize("way", [completion, chat])
def test_llama_cpps_own_server_cannot_and_is_found_out(plain: Bench, way: Callable[[str], Prompt]) -> None:
    outcome, message = refusal(plain.wire("baseline"), way("What is the capital of Italy?"))
    assert outcome is Outcome.NO_PROMPT_LOGPROBS
    assert "ignored" in message
    asked = [e for e in plain.wire("baseline").exchanges() if e.asked and "Italy" in json.dumps(e.asked)]
    assert asked == [], "no user's text was sent"


# users, a sidecar and a ledger


@pytest.mark.parametrize(
    ("role", "per_byte"), [("candidate", False), ("other", True)], ids=["other weights", "another tokenizer"]
)
def test_the_delta_of_two_models_is_what_their_weights_say(
    bench: Bench, tmp_path: Path, role: str, per_byte: bool
) -> None:
    baseline, candidate = bench.model("baseline"), bench.model(role)
    texts = {id_of(f"q-{number}"): text for number, text in enumerate(TEXTS)}
    with stand_at(tmp_path, bench.wire("baseline").url) as at:
        at.begin(bench.wire(role).url, per_byte=per_byte, name=name_of("baseline"))
        for id, (prompt, _) in texts.items():
            at.ask(id, PATHS[0], model=name_of("baseline"), prompt=prompt, max_tokens=2, temperature=0)
        if bench.chats:
            question = "What is the capital of Italy?"
            body = {"messages": [{"role": "user", "content": question}], "max_tokens": 2, "temperature": 0}
            at.ask(id_of("chat"), PATHS[1], model=name_of("baseline"), **body)
            texts[id_of("chat")] = in_chat(question), "Rome."
        until(lambda: at.figure("prompts") == len(texts))
        at.label(*({"id": id, "label": reference} for id, (_, reference) in texts.items()))
        until(lambda: at.evidence()["counts"]["labelled"] == len(texts))
        rows = {row["id"]: row for row in at.exported()}

    deltas = []
    for id, (prompt, reference) in texts.items():
        in_a_chat = id == id_of("chat")
        nats, tokens = baseline.loss(prompt, reference, chat=in_a_chat)
        divisor = len(reference.encode()) * math.log(2) if per_byte else tokens
        expected = (nats / divisor, candidate.loss(prompt, reference, chat=in_a_chat)[0] / divisor)
        found = (loss_in(rows[id], "baseline"), loss_in(rows[id], "candidate"))
        assert found == pytest.approx(expected, abs=CLOSE)
        deltas.append(found[1] - found[0])
        assert abs(deltas[-1] - (expected[1] - expected[0])) < CLOSE
    assert min(map(abs, deltas)) > 100 * CLOSE, "a mix-up of the two would show"


def test_streams_pass_byte_for_byte_and_what_they_said_is_scored(bench: Bench, tmp_path: Path) -> None:
    baseline, candidate = bench.model("baseline"), bench.model("candidate")
    model = {"model": name_of("baseline"), "max_tokens": 6, "temperature": 0}
    messages = [{"role": "user", "content": "What is the capital of Italy?"}]
    bodies: dict[str, tuple[str, dict[str, Any]]] = {
        "whole": (PATHS[0], {**model, "prompt": QUESTION}),
        "stream": (PATHS[0], {**model, "prompt": QUESTION, "stream": True}),
        "usage": (PATHS[0], {**model, "prompt": "Q:", "stream": True, "stream_options": {"include_usage": True}}),
        "chat": (PATHS[1], {**model, "messages": messages, "stream": True}),
    }
    wire = bench.wire("baseline")
    with stand_at(tmp_path, wire.url) as at:
        at.begin(bench.wire("candidate").url, agreement=True, name=name_of("baseline"))
        for id, (path, body) in bodies.items():
            head, got = raw(at.sidecar, path, body, id_of(id))
            sent = [e for e in wire.exchanges() if e.target == path and e.asked == body][-1]
            assert got == sent.body
            assert got.endswith(b"data: [DONE]") or got.rstrip().endswith(b"data: [DONE]") or id == "whole"
            assert head["content-type"].encode() in sent.answer.partition(b"\r\n\r\n")[0]
        until(lambda: at.evidence()["counts"]["pairs"] == len(bodies))
        rows = {row["id"]: row for row in at.exported()}
        outcomes = at.evidence()["counts"]["outcomes"]["baseline"]
    scored = [id for id in bodies if bench.chats or id != "chat"]
    assert outcomes == {"ok": len(scored), **({} if bench.chats else {"noPromptLogprobs": 1})}
    for id in scored:
        path, body = bodies[id]
        prompt = body["prompt"] if path == PATHS[0] else in_chat(messages[0]["content"])
        reply = said([e for e in wire.exchanges() if e.target == path and e.asked == body][-1])
        nats, tokens = baseline.loss(prompt, reply, chat=id == "chat")
        row = rows[id_of(id)]
        assert loss_in(row, "baseline") == pytest.approx(nats / tokens, abs=CLOSE)
        others = candidate.loss(prompt, reply, chat=id == "chat")[0]
        assert loss_in(row, "candidate") == pytest.approx(others / tokens, abs=CLOSE)


def test_the_budget_is_of_the_tokens_that_the_server_reads(bench: Bench, tmp_path: Path) -> None:
    """Six texts and hardly any tokens: one is scored, four wait for the budget, one for them."""
    with stand_at(tmp_path, bench.wire("baseline").url) as at:
        at.begin(bench.wire("candidate").url, tokens=0.01, name=name_of("baseline"))
        for number in range(6):
            at.ask(
                id_of(f"b-{number}"), PATHS[0], model=name_of("baseline"), prompt=QUESTION, max_tokens=2, temperature=0
            )
        until(lambda: at.figure("prompts") == 6)
        at.label(*({"id": id_of(f"b-{number}"), "label": " Paris."} for number in range(6)))
        until(lambda: at.evidence()["counts"]["labelled"] == 1 and at.figure("texts_queued") == 1)
        spent = at.figure("scored_tokens_total")
    # What the server read to answer with numbers: the probe's text and the first one's, and one token more each.
    read = [
        json.loads(e.body)["usage"]["prompt_tokens"]
        for e in bench.wire("baseline").exchanges()
        if e.asked and e.asked.get("prompt") in (f"{QUESTION} Paris, which lies on the", f"{QUESTION} Paris.")
    ]
    without_bos = 2 if bench.kind == "llama-cpp-python" else 0
    assert spent == read[-1] + 1 + next(n for n in reversed(read) if n != read[-1]) + 1 - without_bos


def id_of(word: str) -> str:
    """llama-cpp-python refuses a request whose X-Request-Id is no UUID."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, word))


def raw(url: str, path: str, body: dict[str, Any], id: str) -> tuple[dict[str, str], bytes]:
    address = urlsplit(url)
    user = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
    user.request("POST", path, json.dumps(body), {"X-Request-Id": id, "Content-Type": "application/json"})
    answer = user.getresponse()
    got = answer.read()
    headers = {name.lower(): value for name, value in answer.getheaders()}
    user.close()
    assert answer.status == httpx.codes.OK, got
    return headers, got


def said(exchange: Exchange) -> str:
    """The text of an answer, whole or streamed, read in the tests' own way."""
    if not exchange.asked.get("stream"):
        return str(json.loads(exchange.body)["choices"][0]["text"])
    events = [line[6:].decode() for line in exchange.body.replace(b"\r\n", b"\n").split(b"\n") if line[:6] == b"data: "]
    choices = [choice for event in events if event != "[DONE]" for choice in json.loads(event)["choices"]]
    return "".join(choice["delta"].get("content") or "" if "delta" in choice else choice["text"] for choice in choices)
