"""Where in an answer of a protocol of the user's own the numbers are: JSON Pointer (RFC 6901) or JMESPath.

`presets` makes one `Finder` per role from `model.pointer`. A pointer is a few look-ups; an expression is for what a
pointer cannot say, and takes longer.
"""

import re
from collections.abc import Callable

import jmespath
from jmespath.exceptions import ArityError, JMESPathError, ParseError, UnknownFunctionError

from modelcanary_gate.vocabulary import Outcome
from modelcanary_sidecar.decoding.unreadable import Cause, ReadingError, Unreadable

#: From an answer to the part of it that holds the numbers.
Finder = Callable[[object], object]

_EXPRESSION = "jmespath:"
_BARE_TILDE = re.compile("~(?![01])")


def finder(text: str) -> Finder:
    """Raises ReadingError where `text` is neither a pointer nor an expression."""
    if text.startswith(_EXPRESSION):
        return _by_expression(text.removeprefix(_EXPRESSION))
    tokens = parse_pointer(text)
    return lambda value: follow(value, tokens)


def _by_expression(expression: str) -> Finder:
    try:
        compiled = jmespath.compile(expression)
        compiled.search(None)  # functions are looked up when they are called
    except (UnknownFunctionError, ArityError) as error:
        raise ReadingError(f"model.pointer: {expression!r} cannot be evaluated: {error}") from error
    except ParseError as error:
        reason = str(error).partition("\n")[0][:200]
        raise ReadingError(f"model.pointer: {expression!r} is no JMESPath expression: {reason}") from error
    except RecursionError as error:
        raise ReadingError("model.pointer: the JMESPath expression is nested too deeply") from error
    except JMESPathError:
        pass  # it asks more of an answer than nothing has

    def find(value: object) -> object:
        try:
            found: object = compiled.search(value)
        except (JMESPathError, RecursionError) as error:  # a function that has no use for what it was given
            raise Unreadable(Outcome.UNDECODABLE, Cause.OUTPUT, "the expression does not fit the answer") from error
        if found is None:
            raise Unreadable(Outcome.UNDECODABLE, Cause.OUTPUT, f"nothing at {expression[:80]!r}")
        return found

    return find


def parse_pointer(text: str) -> tuple[str, ...]:
    """The reference tokens of `text`, unescaped; the empty pointer is the whole answer."""
    if text and not text.startswith("/"):
        raise ReadingError(f"model.pointer: {text!r} is no JSON Pointer; it starts with '/', or with 'jmespath:'")
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
