"""JSON Pointer (RFC 6901): where in an answer of a protocol of the user's own the numbers are."""

import re

from modelcanary_gate.vocabulary import Outcome
from modelcanary_sidecar.decoding.unreadable import Cause, ReadingError, Unreadable

_BARE_TILDE = re.compile("~(?![01])")


def parse_pointer(text: str) -> tuple[str, ...]:
    """The reference tokens of `text`, unescaped; the empty pointer is the whole answer."""
    if text.startswith("jmespath:"):
        raise ReadingError(f"model.pointer: {text!r} is JMESPath, which is not read; use a JSON Pointer")
    if text and not text.startswith("/"):
        raise ReadingError(f"model.pointer: {text!r} is no JSON Pointer; it starts with '/'")
    tokens = []
    for token in text.split("/")[1:]:
        if _BARE_TILDE.search(token):
            raise ReadingError(f"model.pointer: a '~' in {text!r} is escaped as '~0', a '/' in a name as '~1'")
        # '~1' first: '~01' is the name '~1', not '/'.
        tokens.append(token.replace("~1", "/").replace("~0", "~"))
    return tuple(tokens)


def follow(value: object, tokens: tuple[str, ...]) -> object:
    """What `tokens` lead to within `value`."""
    for depth, token in enumerate(tokens):
        if isinstance(value, dict) and token in value:
            value = value[token]
        elif isinstance(value, list) and _is_index(token) and int(token) < len(value):
            value = value[int(token)]
        else:
            path = "/".join(("", *tokens[: depth + 1]))
            raise Unreadable(Outcome.UNDECODABLE, Cause.OUTPUT, f"nothing at {path!r}")
    return value


def _is_index(token: str) -> bool:
    """RFC 6901, section 4: digits without a leading zero. Longer ones than a list can have are none."""
    return token.isascii() and token.isdigit() and len(token) < 10 and (token == "0" or token[0] != "0")
