"""A small language model of our own behind an OpenAI-compatible server: exact log-probabilities, an honest tokenizer.

Its tokens are byte pairs merged as they are frequent in what it was trained on; its probabilities are of a token given
the one before, smoothed, and sum to 1. What it answers has the shapes of vLLM's `entrypoints/openai` (completions with
`echo` and `prompt_logprobs`, chats with `prompt_logprobs` and `continue_final_message`), written after that source: it
is not vLLM. `ignores` makes it a server that takes what it does not know without a word, as llama.cpp's does.
"""

import itertools
import json
import math
import random
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.listening import listening

CORPUS = (
    "The capital of France is Paris, and it rains there. The capital of Italy is Rome. "
    "Q: What is the capital of France? A: Paris. Q: What is the capital of Italy? A: Rome. "
    "Über den Wolken ist die Freiheit grenzenlos; ça va très bien, merci. 東京は日本の首都です。 "
) * 3
SMOOTHING = 0.5


class LanguageModel:
    def __init__(self, corpus: str = CORPUS, merges: int = 40) -> None:
        pieces = [bytes([byte]) for byte in corpus.encode()]
        self.vocabulary = [bytes([byte]) for byte in range(256)]
        self.merges: list[tuple[bytes, bytes]] = []
        for _ in range(merges):
            (pair, _), *_ = Counter(itertools.pairwise(pieces)).most_common(1)
            self.merges.append(pair)
            self.vocabulary.append(pair[0] + pair[1])
            pieces = merged(pieces, pair)
        self.index = {piece: number for number, piece in enumerate(self.vocabulary)}
        self.counts: defaultdict[int, Counter[int]] = defaultdict(Counter)
        tokens = [self.index[piece] for piece in pieces]
        for before, after in itertools.pairwise(tokens):
            self.counts[before][after] += 1

    def encode(self, text: str) -> list[int]:
        pieces = [bytes([byte]) for byte in text.encode()]
        for pair in self.merges:
            pieces = merged(pieces, pair)
        return [self.index[piece] for piece in pieces]

    def decode(self, token: int) -> str:
        """Of one token, as servers show it: half a character is a replacement character."""
        return self.vocabulary[token].decode(errors="replace")

    def logprob(self, token: int, before: int) -> float:
        counts = self.counts[before]
        return math.log((counts[token] + SMOOTHING / len(self.vocabulary)) / (counts.total() + SMOOTHING))

    def logprobs(self, tokens: list[int]) -> list[float | None]:
        return [None, *(self.logprob(after, before) for before, after in itertools.pairwise(tokens))]

    def loss(self, prompt: str, reference: str) -> tuple[float, int]:
        """Nats of the reference behind the prompt, and its tokens: from the first that the prompt alone has not."""
        whole, alone = self.encode(prompt + reference), self.encode(prompt)
        start = next((i for i, (a, b) in enumerate(zip(whole, alone, strict=False)) if a != b), len(alone))
        return -math.fsum(x for x in self.logprobs(whole)[start:] if x is not None), len(whole) - start

    def generate(self, tokens: list[int], count: int, seed: int = 1) -> list[int]:
        draw = random.Random(f"{seed} {tokens}")
        made = list(tokens)
        for _ in range(count):
            counts = self.counts[made[-1]]
            made.append(draw.choices(list(counts), list(counts.values()))[0] if counts else 32)
        return made[len(tokens) :]


def merged(pieces: list[bytes], pair: tuple[bytes, bytes]) -> list[bytes]:
    result: list[bytes] = []
    for piece in pieces:
        if result and (result[-1], piece) == pair:
            result[-1] += piece
        else:
            result.append(piece)
    return result


def template(messages: list[dict[str, str]], *, generation: bool, continued: bool) -> str:
    text = "".join(f"<|{message['role']}|>\n{message['content']!s}<|end|>\n" for message in messages)
    if continued:
        text = text.removesuffix("<|end|>\n")
    return text + ("<|assistant|>\n" if generation else "")


@dataclass
class Served:
    """A model at `url`; `ignores` are fields of requests that it does not know, `refuses` those it answers 400 to."""

    model: LanguageModel = field(default_factory=LanguageModel)
    name: str = "tiny"
    ignores: frozenset[str] = frozenset()
    refuses: frozenset[str] = frozenset()
    requests: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    url: str = ""
    status: int = 200
    nested: int = 0  # lists within each other, in its list of models

    def scorings(self) -> list[Any]:
        """Bodies of requests that asked for the numbers of what they sent."""
        with self.lock:
            return [body for _, _, body in self.requests if body and ("prompt_logprobs" in body or body.get("echo"))]

    def answer(self, path: str, asked: dict[str, Any]) -> dict[str, Any]:
        chat = path.endswith("/chat/completions")
        body = {name: value for name, value in asked.items() if name not in self.ignores}
        if chat:
            text = template(
                body["messages"],
                generation=body.get("add_generation_prompt", True),
                continued=body.get("continue_final_message", False),
            )
        else:
            text = body["prompt"] if isinstance(body["prompt"], str) else body["prompt"][0]
        model = self.model
        sent = model.encode(text)
        made = model.generate(sent, body.get("max_tokens", 16))
        numbers = model.logprobs(sent)
        scored: list[Any] | None = None
        if body.get("prompt_logprobs") is not None:
            scored = [
                None
                if number is None
                else {str(token): {"logprob": number, "rank": 1, "decoded_token": model.decode(token)}}
                for token, number in zip(sent, numbers, strict=True)
            ]
        reply = b"".join(model.vocabulary[token] for token in made).decode(errors="replace")
        usage = {"prompt_tokens": len(sent), "completion_tokens": len(made), "total_tokens": len(sent) + len(made)}
        whole = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": self.name, "usage": usage}
        if chat:
            message = {"role": "assistant", "content": reply}
            return {
                **whole,
                "object": "chat.completion",
                "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "length"}],
                "prompt_logprobs": scored,
            }
        shown = [*sent, *made] if body.get("echo") else made
        logprobs = None
        if body.get("logprobs") is not None:
            behind = model.logprobs([*sent, *made])[len(sent) :]
            texts = [model.decode(token) for token in shown]
            offsets = [sum(map(len, texts[:i])) for i in range(len(texts))]
            logprobs = {
                "tokens": texts,
                "token_logprobs": [*numbers, *behind] if body.get("echo") else behind,
                "top_logprobs": None,
                "text_offset": offsets,
            }
        choice = {
            "index": 0,
            "text": (text if body.get("echo") else "") + reply,
            "logprobs": logprobs,
            "finish_reason": "length",
            "prompt_logprobs": scored,
        }
        return {**whole, "choices": [choice]}

    def stream(self, path: str, body: dict[str, Any]) -> list[bytes]:
        """Server-sent events, a piece of text each, as the servers write them."""
        answer = self.answer(path, body)
        choice = answer["choices"][0]
        reply = choice["message"]["content"] if "message" in choice else choice["text"]
        events = []
        for start in range(0, len(reply), 3):
            piece = reply[start : start + 3]
            said = {"delta": {"content": piece}} if "message" in choice else {"text": piece}
            events.append({"id": "cmpl-1", "choices": [{"index": 0, **said, "finish_reason": None}]})
        last: dict[str, Any] = {"delta": {}} if "message" in choice else {"text": ""}
        events.append({"id": "cmpl-1", "choices": [{"index": 0, **last, "finish_reason": "length"}]})
        events.append({"id": "cmpl-1", "choices": [], "usage": answer["usage"]})
        lines = [b"data: " + json.dumps(event).encode() + b"\n\n" for event in events]
        return [*lines, b"data: [DONE]\n\n"]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served: Served

    def do_GET(self) -> None:
        self._record(None)
        if self.path.endswith("/models"):
            self._send(
                200, {"object": "list", "data": [{"id": self.served.name, "object": "model"}]}, self.served.nested
            )
        else:
            self._send(404, {"error": {"message": "no such page"}})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._record(body)
        served = self.served
        if served.status != 200:
            self._send(served.status, {"error": {"message": "no"}})
        elif served.refuses & body.keys():
            self._send(400, {"error": {"message": "unknown field"}})
        elif body.get("model") not in ("", served.name):
            self._send(404, {"error": {"message": f"The model `{body.get('model')}` does not exist."}})
        elif body.get("stream"):
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream; charset=utf-8")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for event in served.stream(self.path, body):
                self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))
                self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")
        else:
            self._send(200, served.answer(self.path, body))

    def _record(self, body: Any) -> None:
        with self.served.lock:
            self.served.requests.append((self.path, dict(self.headers.items()), body))

    def _send(self, status: int, answer: Any, nested: int = 0) -> None:
        data = json.dumps(answer, ensure_ascii=False).encode()
        if nested:
            data = data.replace(b'"object": "model"', b'"object": %b%b' % (b"[" * nested, b"]" * nested))
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving(served: Served) -> Iterator[Served]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"served": served}))
    server.daemon_threads = True
    with listening(server) as served.url:
        yield served
