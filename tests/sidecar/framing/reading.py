"""What a strict reader makes of bytes: requests by h11 as a server, answers by h11 as a client.

The tests of this folder render every outcome as a line of text, so that a table of cases can be read:
`POST /x hello; kept` is one request that was forwarded and answered on a connection that stays, `400` a refusal.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import h11

KEPT, CLOSED, WAITS, REFUSED, TUNNEL = "kept", "closed", "waits", "refused", "tunnel"
_ROOM = 1 << 20

Headers = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, as it was read."""

    method: bytes
    target: bytes
    headers: Headers  # names in lower case
    body: bytes

    def __str__(self) -> str:
        text = " ".join(part.decode("latin-1") for part in (self.method, self.target, self.body) if part)
        return text.encode("unicode_escape").decode()

    def echo(self) -> bytes:
        """The body by which our model answers: who reads it knows which request it belongs to."""
        return str(self).encode()

    @property
    def end_to_end(self) -> Headers:
        return end_to_end(self.headers)


_BETWEEN_HOPS = {
    *(b"keep-alive", b"proxy-connection", b"te", b"trailer", b"upgrade", b"http2-settings", b"expect"),
    *(b"proxy-authorization", b"proxy-authenticate", b"content-length", b"transfer-encoding", b"connection"),
}


def end_to_end(headers: Headers) -> Headers:
    """Without what belongs to one connection, without what is ours, and without an id that may be minted."""
    named = {
        token.strip().lower() for name, value in headers if name == b"connection" for token in value.split(b",")
    } - {b"host"}
    return tuple(
        (name, value)
        for name, value in headers
        if name not in _BETWEEN_HOPS | named | {b"x-request-id"} and not name.startswith(b"x-modelcanary-")
    )


class RequestStream:
    """h11 as a server that is fed; what it has read is in `read`, and how it ended in `end`."""

    def __init__(self) -> None:
        self.read: list[Asked] = []
        self.end = WAITS
        self.error = ""
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_ROOM)
        self._request: h11.Request | None = None
        self._body = b""

    def feed(self, data: bytes) -> list[Asked]:
        """Whole requests that came of it. After the end nothing does."""
        before = len(self.read)
        try:
            if self.end == WAITS:
                self._http.receive_data(data)
                self._advance()
        except h11.RemoteProtocolError as error:
            self.end, self.error = REFUSED, str(error)
        return self.read[before:]

    def _advance(self) -> None:
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                return
            if isinstance(event, h11.Request):
                self._request, self._body = event, b""
            elif isinstance(event, h11.Data):
                self._body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage) and self._request is not None:
                request = self._request
                self.read.append(Asked(request.method, request.target, tuple(request.headers), self._body))
                self._http.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                if self._http.our_state is h11.SWITCHED_PROTOCOL:
                    self.end = TUNNEL
                    return
                self._http.send(h11.EndOfMessage())
                if self._http.our_state is not h11.DONE:
                    self.end = CLOSED
                    return
                self._http.start_next_cycle()
            elif isinstance(event, h11.ConnectionClosed) or event is h11.PAUSED:
                self.end = CLOSED
                return

    @property
    def between(self) -> bool:
        """No request has begun since the last one ended."""
        return self._http.their_state is h11.IDLE and not self._http.trailing_data[0]


def read_by_h11(wire: bytes) -> tuple[list[Asked], str]:
    stream = RequestStream()
    stream.feed(wire)
    end = KEPT if stream.end == WAITS and stream.between and stream.read else stream.end
    return stream.read, end


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Headers
    body: bytes
    whole: bool = True
    interim: tuple[int, ...] = ()

    def __str__(self) -> str:
        text = f"{self.status} {self.body.decode('latin-1')}".strip() + ("" if self.whole else " (cut)")
        return text.encode("unicode_escape").decode()

    @property
    def closes(self) -> bool:
        return (b"connection", b"close") in self.headers


class BadAnswerError(Exception):
    """Not an answer, for a strict reader."""


def read_answer(method: bytes, data: bytes, *, ended: bool = False) -> tuple[Answer, bytes] | None:
    """The first answer to `method` in `data`, and what is behind it; None: more is needed.

    `ended`: the connection has. An answer that misses its end is then not whole.
    """
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_ROOM)
    http.send(h11.Request(method=method, target="/", headers=[("host", "a")]))
    http.send(h11.EndOfMessage())
    response, body, interim = None, b"", []
    try:
        http.receive_data(data)
        if ended:
            http.receive_data(b"")
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                return None
            if isinstance(event, h11.InformationalResponse):
                interim.append(event.status_code)
            elif isinstance(event, h11.Response):
                response = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage) and response is not None:
                answer = Answer(response.status_code, tuple(response.headers), body, True, tuple(interim))
                return answer, http.trailing_data[0]
            else:
                raise BadAnswerError(f"{event!r} in {data[:200]!r}")
    except h11.RemoteProtocolError as error:
        if ended and response is not None:
            return Answer(response.status_code, tuple(response.headers), body, False, tuple(interim)), b""
        raise BadAnswerError(f"{error} in {data[:200]!r}") from error


def render(parts: Sequence[object], end: str) -> str:
    return "; ".join([*map(str, parts), end])
