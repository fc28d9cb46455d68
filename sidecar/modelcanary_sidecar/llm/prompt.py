"""What a user asked a language model, and what it answered: out of the bodies that passed on the live path.

`session` keeps prompts, in memory only, and `scoring` asks with them again. A streamed answer is read here for its
text alone, where the baseline's answer is the reference: its numbers come from a second call. Nothing here knows why.
"""

import sys
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from modelcanary_sidecar.asked import NOT_READ, asked
from modelcanary_sidecar.capture import Captured, header
from modelcanary_sidecar.decoding.body import inflate
from modelcanary_sidecar.decoding.unreadable import Unreadable
from modelcanary_sidecar.mirrored import without

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_CHAT, _COMPLETIONS = b"/chat/completions", b"/completions"
#: Of a chat, what its template reads beside the messages.
_TEMPLATE = ("tools", "documents", "chat_template", "chat_template_kwargs")
#: Lists and objects within each other; the encoder has a limit too, which depends on who calls it.
_MOST_DEEP = 100

Body = dict[str, object]


class Unfit(StrEnum):
    """Why a request makes no pair, as it is counted among what was dropped."""

    PATH = "notCompletion"  # neither …/completions nor …/chat/completions
    PROMPT = "promptNotText"  # token ids, several prompts, images, an answer to be continued, what cannot be sent again
    ANSWER = "answerNotText"  # a failed one, several, tool calls, reasoning apart, a stream that broke


@dataclass(frozen=True, slots=True)
class Prompt:
    """Enough to ask again, with an answer behind it; bytes, since what JSON makes of them takes many times the room."""

    path: bytes  # without query
    headers: bytes  # of the mirrored copy, without Content-Encoding
    chat: bool
    model: str
    asked: bytes  # JSON of what is sent again: the prompt, or the messages and what the template reads beside them

    @property
    def size(self) -> int:
        """Bytes that it takes in memory."""
        return len(self.path) + len(self.headers) + sys.getsizeof(self.model) + len(self.asked)

    def body(self) -> Body:
        found: Body = _decode(self.asked)
        return found

    @property
    def base(self) -> bytes:
        """The path before the endpoint: /v1."""
        return self.path.removesuffix(_CHAT if self.chat else _COMPLETIONS)


def prompt_of(captured: Captured, cap: int) -> Prompt | Unfit:
    path = captured.target.partition(b"?")[0]
    chat = path.endswith(_CHAT)
    if not chat and not path.endswith(_COMPLETIONS):
        return Unfit.PATH
    try:
        body = _decode(asked(captured.headers, captured.body, cap).json)
    except NOT_READ:
        return Unfit.PROMPT
    if not isinstance(body, dict):
        return Unfit.PROMPT
    model, text, messages = body.get("model"), body.get("prompt", ""), body.get("messages", [])
    if not isinstance(text, str) or not isinstance(messages, list) or not (messages if chat else text):
        return Unfit.PROMPT
    if chat and not (all(map(_is_text, messages)) and messages[-1]["role"] != "assistant"):
        return Unfit.PROMPT
    if body.get("suffix") is not None:
        return Unfit.PROMPT
    again: Body = {"prompt": text}
    if chat:
        again = {"messages": messages, **{name: body[name] for name in _TEMPLATE if body.get(name) is not None}}
    if not _is_shallow(again):
        return Unfit.PROMPT
    headers = without(captured.headers, b"content-encoding")
    data = bytes(memoryview(_encode(again)))  # a copy: the encoder's own keeps the room that it grew to
    return Prompt(path, headers, chat, model if isinstance(model, str) else "", data)


def answer_of(captured: Captured, cap: int) -> str | Unfit:
    """The one text that the user was answered, whole or streamed."""
    answer = captured.baseline
    if answer.failure is not None or answer.status >= 400:
        return Unfit.ANSWER
    try:
        body = inflate(answer.body, header(answer.headers, b"content-encoding") or b"", cap)
        request = _decode(asked(captured.headers, captured.body, cap).json)
    except (Unreadable, *NOT_READ):
        return Unfit.ANSWER
    if not isinstance(request, dict) or request.get("echo"):
        return Unfit.ANSWER
    text = _streamed(body) if request.get("stream") else _whole(body)
    return text if text else Unfit.ANSWER


def _whole(body: bytes) -> str | None:
    choice = _only_choice(body)
    if choice is None:
        return None
    message = choice.get("message")
    if isinstance(message, dict):
        return _content(message)
    text = choice.get("text")
    return text if isinstance(text, str) else None


def _streamed(body: bytes) -> str | None:
    """Of server-sent events, the pieces of text in their order; None unless the stream came to its end."""
    pieces: list[str] = []
    for line in body.splitlines():
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == b"[DONE]":
            return "".join(pieces)
        if b'"choices":[]' in data.replace(b" ", b""):
            continue  # the usage, at the end
        choice = _only_choice(data)
        if choice is None:
            return None
        delta = choice.get("delta")
        piece = _content(delta) if isinstance(delta, dict) else choice.get("text")
        if not isinstance(piece, str):
            return None
        pieces.append(piece)
    return None


def _only_choice(body: bytes) -> Body | None:
    try:
        value = _decode(body)
    except NOT_READ:
        return None
    choices = value.get("choices") if isinstance(value, dict) else None
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        return None
    return None if choices[0].get("index", 0) else choices[0]


def _content(message: Body) -> str | None:
    """Of a message, or of a piece of one, which may have no text."""
    if any(message.get(name) for name in ("tool_calls", "function_call", "reasoning_content", "reasoning", "refusal")):
        return None
    content = message.get("content")
    if content is None:
        return ""
    return content if isinstance(content, str) else None


def _is_shallow(value: object) -> bool:
    level = [value]
    for _ in range(_MOST_DEEP):
        inner: list[object] = []
        for one in level:
            if isinstance(one, dict):
                inner += one.values()
            elif isinstance(one, list):
                inner += one
        if not inner:
            return True
        level = inner
    return False


def _is_text(message: object) -> bool:
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        return False
    content = message.get("content")
    if not isinstance(content, list):
        return content is None or isinstance(content, str)
    return all(isinstance(part, dict) and part.get("type") == "text" for part in content)
