"""How a server is made to say how probable a given text is, and what its answer says: pure, bodies in and out.

Two ways: `prompt_logprobs` (vLLM, and those that follow it) for completions and chats, and `echo` with `logprobs` (the
older API of OpenAI) for completions, which llama-cpp-python answers without the first token where that is the model's
own, BOS. Each asks for one token more, which is left aside: some servers take 0 for as many as there is room for. What
a server ignores it answers without, so what came back is counted against the prompt's tokens.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from modelcanary_gate.vocabulary import Outcome
from modelcanary_sidecar.capture import LiveAnswer, header
from modelcanary_sidecar.decoding.body import inflate, parse_json
from modelcanary_sidecar.decoding.unreadable import Cause, Unread, Unreadable
from modelcanary_sidecar.llm.prompt import Body, Prompt

_encode = msgspec.json.Encoder().encode
#: Of a reference; a pair holds a loss as a float32, per token or per byte, and up to here each of them is one.
_MOST_NATS = 1e38


class Way(StrEnum):
    PROMPT_LOGPROBS = "promptLogprobs"
    ECHO = "echo"
    ECHO_WITHOUT_BOS = "echoWithoutBos"  # asked in the same way, answered with one token less


@dataclass(frozen=True, slots=True)
class Tokens:
    """A text as a model's tokenizer cuts it, each token with its log-probability given those before."""

    ids: list[str]  # what a token is told apart by
    texts: list[str | None]
    logprobs: list[float | None]  # nats; None for the first, which has nothing before it
    more: int = 0  # that were generated behind them, and are not among them

    def __len__(self) -> int:
        return len(self.ids)


def body_of(way: Way, prompt: Prompt, model: str, reference: str | None) -> Body:
    """The request's body that scores a prompt with a reference behind it, or the prompt alone."""
    body: Body = {"model": model, "max_tokens": 1, "temperature": 0, "stream": False}
    body |= {"prompt_logprobs": 0} if way is Way.PROMPT_LOGPROBS else {"echo": True, "logprobs": 1}
    asked = prompt.body()
    if not prompt.chat:
        return body | {"prompt": f"{asked['prompt']}{reference or ''}"}
    messages = asked["messages"]
    answer = [] if reference is None else [{"role": "assistant", "content": reference}]
    return body | {
        **asked,
        "messages": [*(messages if isinstance(messages, list) else []), *answer],
        "add_generation_prompt": reference is None,
        "continue_final_message": reference is not None,
    }


def request_of(path: bytes, headers: bytes, body: Body) -> bytes:
    data = _encode(body)
    return b"POST %b HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n%b" % (path, headers, len(data), data)


def read(way: Way, answer: LiveAnswer, cap: int) -> Tokens | Unread:
    """The tokens of all that was sent."""
    if answer.failure is not None:
        return Unread(answer.failure, Cause.NO_ANSWER, "no answer")
    if answer.status >= 400:
        return Unread(Outcome.ERROR_STATUS, Cause.STATUS, f"status {answer.status}")
    try:
        value = parse_json(inflate(answer.body, header(answer.headers, b"content-encoding") or b"", cap))
    except Unreadable as error:
        return error.unread
    choices = value.get("choices") if isinstance(value, dict) else None
    if not isinstance(value, dict) or not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return Unread(Outcome.UNDECODABLE, Cause.SHAPE, "no `choices`")
    usage = value.get("usage")
    counts = [usage.get(name) if isinstance(usage, dict) else None for name in ("prompt_tokens", "completion_tokens")]
    sent, more = (count if type(count) is int else 0 for count in counts)
    if way is Way.PROMPT_LOGPROBS:
        return _prompt_logprobs(choices[0].get("prompt_logprobs") or value.get("prompt_logprobs"), sent)
    return _echoed(choices[0].get("logprobs"), sent - (way is Way.ECHO_WITHOUT_BOS), more)


def _prompt_logprobs(found: object, sent: int) -> Tokens | Unread:
    """Per token {id: {logprob, rank, decoded_token}}, the token itself before any others; null for the first."""
    if not isinstance(found, list) or not sent or len(found) != sent:
        return _ignored("prompt_logprobs", found, sent)
    tokens = Tokens([], [], [])
    for place, entry in enumerate(found):
        if entry is None:
            tokens.ids.append(f"#{place}")
            tokens.texts.append("")
            tokens.logprobs.append(None)
            continue
        if not isinstance(entry, dict) or not entry:
            return Unread(Outcome.UNDECODABLE, Cause.SHAPE, "an entry of prompt_logprobs that is no object")
        identifier, said = next(iter(entry.items()))
        text = said.get("decoded_token") if isinstance(said, dict) else None
        logprob = _number(said.get("logprob") if isinstance(said, dict) else said)
        if logprob is None:
            return Unread(Outcome.UNDECODABLE, Cause.NOT_NUMBER, "an entry of prompt_logprobs without a number")
        tokens.ids.append(str(identifier))
        tokens.texts.append(text if isinstance(text, str) else None)
        tokens.logprobs.append(logprob)
    return tokens


def _echoed(found: object, sent: int, more: int) -> Tokens | Unread:
    """Lists of tokens and of their log-probabilities, those generated behind those sent."""
    texts = found.get("tokens") if isinstance(found, dict) else None
    numbers = found.get("token_logprobs") if isinstance(found, dict) else None
    if not isinstance(texts, list) or not isinstance(numbers, list) or sent < 1 or len(texts) != sent + more:
        return _ignored("echo", texts, sent)
    if len(numbers) != len(texts):
        return Unread(Outcome.UNDECODABLE, Cause.SHAPE, "as many token_logprobs as tokens are needed")
    if not all(isinstance(text, str) for text in texts):
        return Unread(Outcome.UNDECODABLE, Cause.SHAPE, "tokens that are no texts")
    tokens = Tokens(texts[:sent], texts[:sent], [], more)
    for place, number in enumerate(numbers[:sent]):
        logprob = _number(number)
        if logprob is None and not (number is None and place == 0):
            return Unread(Outcome.UNDECODABLE, Cause.NOT_NUMBER, "token_logprobs that are no numbers")
        tokens.logprobs.append(logprob)
    return tokens


def start_by_text(tokens: Tokens, reference: str) -> int | None:
    """The first token of the reference, by the tokens' texts; None where those do not add up to it.

    They do not where a character is cut into several tokens, or a tokenizer's texts leave spaces out. A token that
    begins before the reference and ends in it counts with the reference. vLLM says "" of a character's first tokens and
    the character of its last: behind a token without a text the reference may have begun before.
    """
    texts = [text for text in tokens.texts if text is not None]
    whole = "".join(texts)
    if len(texts) != len(tokens) or not whole.endswith(reference):
        return None
    before, at = len(whole) - len(reference), 0
    for place, text in enumerate(texts):
        at += len(text)
        if at > before:
            return place if place == 0 or texts[place - 1] else None
    return None


def start_by_prompt(tokens: Tokens, prompt: Tokens) -> int:
    """The first token in which prompt and reference differ from the prompt alone."""
    same = 0
    for one, other in zip(tokens.ids, prompt.ids, strict=False):
        if one != other:
            break
        same += 1
    return same


def loss_from(tokens: Tokens, start: int) -> float | Unread:
    """Cross-entropy of the tokens from `start` on, nats in all."""
    numbers = tokens.logprobs[start:]
    known = [number for number in numbers if number is not None]
    if not known or len(known) != len(numbers):
        return Unread(
            Outcome.NO_PROMPT_LOGPROBS, Cause.PROMPT_LOGPROBS, "the reference has a token without a log-probability"
        )
    try:
        total = -math.fsum(known)
    except (OverflowError, ValueError):  # beyond what a float can hold, or infinities of both signs
        total = math.inf
    if not abs(total) <= _MOST_NATS:
        return Unread(Outcome.NON_FINITE, Cause.NON_FINITE, "a log-probability is not finite, or none that can be")
    return max(0.0, total)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value)
    except OverflowError:  # a whole number beyond what a float can hold
        return -math.inf if value < 0 else math.inf


def _ignored(way: str, found: object, sent: int) -> Unread:
    came = len(found) if isinstance(found, list) else 0
    return Unread(
        Outcome.NO_PROMPT_LOGPROBS,
        Cause.PROMPT_LOGPROBS,
        f"{way} is ignored: numbers for {came} tokens where {sent} were sent",
    )
