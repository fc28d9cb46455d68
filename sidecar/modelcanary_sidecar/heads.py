"""Policy for the heads of requests and answers: what is refused, what is forwarded, what we say ourselves.

Called by `conversation` and `model_connection` with what llhttp parsed. A head is always written anew from
the parsed model, and its framing headers are ours, so that no reading of it can differ behind us. Pure; it
must not know connections, nor what is mirrored.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

Headers = Sequence[tuple[bytes, bytes]]

#: Of one head, in bytes as sent on and in lines.
MAX_HEAD: Final = 64 << 10
MAX_HEADERS: Final = 256
_MAX_ID: Final = 256

# What is special about a header, by its name in lower case. All else is forwarded as it is
# (_PLAIN); what begins with X-ModelCanary- is ours alone.
# Up to _FORWARDED, a mirrored copy may leave it out.
_PLAIN, _ACCEPT_ENCODING, _CREDENTIAL = range(3)
_FORWARDED = _CREDENTIAL
_OURS, _DROPPED, _LENGTH, _CODING, _CONNECTION, _EXPECT, _HOST, _ID, _CE_ID = range(3, 12)
_SPECIAL: Final = {
    **dict.fromkeys(
        (
            b"keep-alive",
            b"proxy-connection",
            b"te",
            b"trailer",
            b"upgrade",
            b"http2-settings",
            b"proxy-authorization",
            b"proxy-authenticate",
        ),
        _DROPPED,
    ),
    b"content-length": _LENGTH,
    b"transfer-encoding": _CODING,
    b"connection": _CONNECTION,
    b"expect": _EXPECT,
    b"host": _HOST,
    b"ce-id": _CE_ID,
    b"authorization": _CREDENTIAL,
    b"cookie": _CREDENTIAL,
    b"accept-encoding": _ACCEPT_ENCODING,
}
#: What a `Connection` header may not name: it would change where the request goes or how it is framed.
_NOT_BY_CONNECTION: Final = frozenset({b"host", b"content-length", b"transfer-encoding", b"connection"})
_OUR_PREFIX: Final = b"x-modelcanary-"
_ZERO: Final = b"0"[0]
_REMEMBERED: Final = 512  # names of headers
_LONGEST_REMEMBERED: Final = 64
#: What may be a Host (RFC 3986, 3.2.2 and 3.2.3); what is none must be refused (RFC 9112, 3.2).
_HOST_TEXT: Final = re.compile(rb"(?:\[[0-9A-Za-z:.]+\]|[\w.~!$&'()*+,;=%-]+)(?::[0-9]*)?", re.ASCII)
_ID_TEXT: Final = re.compile(rb"[\x21-\x7e\x80-\xff](?:[\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?")


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer of our own. The connection is closed behind it."""

    status: int
    reason: str

    def answer(self, method: bytes = b"") -> bytes:
        """To a request of that method, where it is known: to HEAD without a body."""
        text = f"{self.status} {self.reason}\n"
        return (
            f"HTTP/1.1 {self.status} {self.reason}\r\ncontent-type: text/plain\r\n"
            f"content-length: {len(text)}\r\nconnection: close\r\n\r\n{'' if method == b'HEAD' else text}"
        ).encode()


BAD_REQUEST: Final = Refusal(400, "Bad Request")
REQUEST_TIMEOUT: Final = Refusal(408, "Request Timeout")
HEAD_TOO_LARGE: Final = Refusal(431, "Request Header Fields Too Large")
NOT_IMPLEMENTED: Final = Refusal(501, "Not Implemented")
BAD_GATEWAY: Final = Refusal(502, "Bad Gateway")
NO_ROOM: Final = Refusal(503, "Service Unavailable")
GATEWAY_TIMEOUT: Final = Refusal(504, "Gateway Timeout")
VERSION_NOT_SUPPORTED: Final = Refusal(505, "HTTP Version Not Supported")


class Names:
    """What is special about a header, and how its line begins, by its name as it was sent.

    Clients send the same few names over and over, so a name is looked at once and remembered. Instructions
    may say which header carries ids.
    """

    __slots__ = ("_special", "hosts", "id_header", "id_line", "known")

    def __init__(self, id_header: str) -> None:
        self.known: dict[bytes, tuple[int, bytes]] = {}
        self.hosts: set[bytes] = set()  # that were found to be some
        self.id_header = id_header.encode("latin-1", "replace")
        self.id_line = b"\r\n%b: " % self.id_header
        self._special = {**_SPECIAL}
        # A header that has a meaning of its own cannot carry ids as well; Ce-Id may.
        if self._special.get(self.id_header.lower(), _CE_ID) == _CE_ID:
            self._special[self.id_header.lower()] = _ID

    def learn(self, name: bytes) -> tuple[int, bytes]:
        lower = name.lower()
        kind = self._special.get(lower, _OURS if lower.startswith(_OUR_PREFIX) else _PLAIN)
        found = kind, b"\r\n%b: " % name
        if len(name) <= _LONGEST_REMEMBERED:
            if len(self.known) >= _REMEMBERED:
                self.known.clear()  # names that nobody sends twice must not keep those out that everybody does
            self.known[name] = found
        return found

    def is_host(self, value: bytes) -> bool:
        """Whether it may be a Host; those of short names are remembered, as names of headers are."""
        if _HOST_TEXT.fullmatch(value) is None:
            return False
        if len(value) <= _LONGEST_REMEMBERED:
            if len(self.hosts) >= _REMEMBERED:
                self.hosts.clear()
            self.hosts.add(value)
        return True


@dataclass(slots=True)  # not frozen: one is made for each request, and a frozen one costs three times as much
class RequestHead:
    """A request's head as it is sent on."""

    method: bytes
    target: bytes
    #: Request line, header lines and framing in pieces, because joining once is cheaper than formatting each
    #: line: four for the request line, two for each header, one for the framing.
    pieces: list[bytes]
    chunked: bool
    expects: bool  # Expect: 100-continue
    http10: bool
    id: bytes | None  # the client's, None when it sent none
    sensitive: list[tuple[int, int]]  # headers that a mirrored copy may leave out: kind, and where in `pieces`
    end: int = 0  # of the head in `pieces`, once they were handed over: the body follows in the same list

    def hand_over(self) -> list[bytes]:
        """The pieces, for what is to be sent to be appended to: nothing can be added to the head any more."""
        pieces = self.pieces
        self.end = len(pieces)
        return pieces

    def add(self, line: bytes, value: bytes) -> None:
        """A header of ours; `line` is its beginning."""
        self.pieces[-1:-1] = (line, value)

    def __len__(self) -> int:
        """Bytes, as the model gets it."""
        return sum(map(len, self.pieces))

    def to_mirror(self, forward_credentials: bool) -> bytes:
        """The header lines of the mirrored copy; its sender frames it."""
        lines = self._lines(_ACCEPT_ENCODING, _PLAIN if forward_credentials else _CREDENTIAL)
        lines[0] = b"X-ModelCanary-Shadow: 1\r\naccept-encoding: identity"
        lines.append(b"\r\n")
        return b"".join(lines)

    def to_candidate(self, forward_credentials: bool, length: int) -> bytes:
        """The head as the candidate gets it where it answers a user: framed for a body that is whole."""
        lines = self._lines(_PLAIN if forward_credentials else _CREDENTIAL)
        lines[0] = b"%b %b HTTP/1.1" % (self.method, self.target)
        lines.append(b"\r\ncontent-length: %d\r\n\r\n" % length)
        return b"".join(lines)

    def _lines(self, *left_out: int) -> list[bytes]:
        """The header lines, but those of some kinds, behind a place for a first one."""
        lines = self.pieces[3 : self.end - 1]
        for kind, at in reversed(self.sensitive):
            if kind in left_out:
                del lines[at - 3 : at - 1]
        return lines


def read_request(  # noqa: PLR0915 - one pass over the headers of every request, without calls
    method: bytes, target: bytes, version: str, headers: Headers, names: Names, authority: bytes
) -> RequestHead | Refusal:
    """What to send on, or why not. `authority` stands in for a Host that HTTP/1.0 may leave out."""
    if len(headers) > MAX_HEADERS:
        return HEAD_TOO_LARGE
    pieces = [method, b" ", target, b" HTTP/1.1"]
    known = names.known
    sensitive: list[tuple[int, int]] = []
    length = coding = connection = client_id = ce_id = host = None
    expects = False
    for name, value in headers:
        try:
            kind, line = known[name]
        except KeyError:
            kind, line = names.learn(name)
        if kind <= _FORWARDED:
            if kind:
                sensitive.append((kind, len(pieces)))
            pieces += (line, value)
            continue
        if kind == _LENGTH:
            length = value.strip()
            continue
        if kind == _HOST:
            if host is not None:
                return BAD_REQUEST
            host = value
        elif kind == _ID:
            if not value:
                continue
            client_id = client_id or value
        elif kind == _CONNECTION:
            connection = value.lower() if connection is None else connection + b"," + value.lower()
            continue
        elif kind == _CE_ID:
            ce_id = ce_id or value or None
        elif kind == _CODING:
            if coding is not None or value.lower() != b"chunked":
                return NOT_IMPLEMENTED
            coding = value
            continue
        elif kind == _EXPECT:
            if value.lower() != b"100-continue":
                return BAD_REQUEST
            expects = True
            continue
        else:  # _OURS, _DROPPED
            continue
        pieces += (line, value)
    if connection is not None and connection not in (b"close", b"keep-alive"):
        named = {token.strip() for token in connection.split(b",")} - _NOT_BY_CONNECTION
        rest = [(name, value) for name, value in headers if name.lower() not in named]
        if len(rest) < len(headers):
            return read_request(method, target, version, rest, names, authority)
    http10 = version == "1.0"
    if version != "1.1":
        if not http10:
            return VERSION_NOT_SUPPORTED
        if coding is not None:
            return BAD_REQUEST
        if host is None:
            host = authority
            pieces += (b"\r\nHost: ", authority)
    if not host or method == b"CONNECT" or not (host in names.hosts or names.is_host(host)):
        return BAD_REQUEST
    if target[:1] != b"/" or b"#" in target:
        origin = _origin_form(target, host, method)
        if origin is None:
            return BAD_REQUEST
        pieces[2] = target = origin
    if length is not None:
        if coding is not None or not length.isdigit():
            return BAD_REQUEST
        if length[0] == _ZERO:
            length = _without_zeros(length)
        pieces.append(b"\r\ncontent-length: %b\r\n\r\n" % length)
    else:
        pieces.append(b"\r\n\r\n" if coding is None else b"\r\ntransfer-encoding: chunked\r\n\r\n")
    return RequestHead(
        method,
        target,
        pieces,
        coding is not None,
        expects and not http10,
        http10,
        client_id or ce_id,
        sensitive,
    )


def _without_zeros(length: bytes) -> bytes:
    """A Content-Length as it is usually written: who bounds its digits would read another than who does not."""
    return length.lstrip(b"0") or b"0"


def _origin_form(target: bytes, host: bytes, method: bytes) -> bytes | None:
    """The path of an absolute-form target for the very host of the request; None: refuse it."""
    if b"#" in target:
        return None
    if target == b"*" and method == b"OPTIONS":
        return target
    scheme, separator, rest = target.partition(b"://")
    if not separator or scheme.lower() != b"http":
        return None
    authority, slash, path = rest.partition(b"/")
    if authority.lower() != host.lower():
        return None
    return slash + path if slash else b"/"


def id_text(value: bytes) -> str | None:
    """A client's id as text; None where it cannot be one: then the request is served and not mirrored."""
    if len(value) > _MAX_ID:
        return None
    if value.isascii():  # nearly always, and cheaper than the expression
        text = value.decode("ascii")
        return text if text.isprintable() and text.strip(" ") == text else None
    if _ID_TEXT.fullmatch(value) is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def answer_pieces(headers: Headers, names: Names, minted: bool) -> tuple[list[bytes], bytes | None, bool] | None:
    """Of an answer: its end-to-end header lines in pieces, its Content-Length, and whether it is chunked.

    None: it is refused. With an id that we minted, the model's own header of that name is left out: labels
    come with ours.
    """
    pieces: list[bytes] = []
    known = names.known
    length: bytes | None = None
    chunked = False
    connection: bytes | None = None
    for name, value in headers:
        try:
            kind, line = known[name]
        except KeyError:
            kind, line = names.learn(name)
        if kind:
            if kind == _LENGTH:
                length = value.strip()
                if not length.isdigit():
                    return None
                if length[0] == _ZERO:
                    length = _without_zeros(length)
                continue
            if kind == _CODING:
                if chunked or value.lower() != b"chunked":
                    return None
                chunked = True
                continue
            if kind == _CONNECTION:
                connection = value.lower() if connection is None else connection + b"," + value.lower()
                continue
            if kind == _DROPPED or (kind == _ID and minted):
                continue
        pieces += (line, value)
    if chunked and length is not None:
        return None
    if connection is not None and connection not in (b"close", b"keep-alive"):
        named = {token.strip() for token in connection.split(b",")} - _NOT_BY_CONNECTION
        rest = [(name, value) for name, value in headers if name.lower() not in named]
        if len(rest) < len(headers):
            return answer_pieces(rest, names, minted)
    return pieces, length, chunked
