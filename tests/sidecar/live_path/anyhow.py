"""Clients, a model and a candidate who do whatever comes to their minds, on sockets that never wait, and by a seed.

`test_any_order` lets them act and judges what came of it. Nothing here may know what a sidecar is.
"""

import re
import select
import socket
import struct
from collections.abc import Iterable
from contextlib import suppress
from random import Random

KINDS = ("length", "chunked", "interim", "close", "until-close", "early", "garbage", "short", "reset", "hang-up")
WEIGHTS = (10, 10, 2, 2, 2, 1, 1, 1, 1, 1)
#: By which an answer is broken off, or never begun.
MISDEEDS = frozenset({"garbage", "short", "reset", "hang-up"})
_ROOM = 1 << 16


def reset(end: socket.socket) -> None:
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()


class Side:
    """One end of one connection, with what it has still to say and what it has heard."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = end
        self.to_say = b""
        self.heard = b""
        self.ended = False  # by the other side

    def listen(self) -> None:
        with suppress(BlockingIOError):
            try:
                while data := self.socket.recv(_ROOM):
                    self.heard += data
            except ConnectionError:
                pass
            self.ended = True

    def say(self, count: int) -> None:
        with suppress(BlockingIOError, ConnectionError):
            self.to_say = self.to_say[self.socket.send(self.to_say[:count]) :]


class User(Side):
    """A client: `/name/n` is its nth request, with a body that says the same."""

    def __init__(self, end: socket.socket, name: int, random: Random) -> None:
        super().__init__(end)
        self.name = name
        self.asked = 0
        self.left = False
        self.stalled = False
        self._random = random

    def ask(self) -> None:
        for _ in range(self._random.randrange(1, 4)):
            target = f"/{self.name}/{self.asked}"
            self.asked += 1
            body = f"{target}|".encode() * self._random.choice((1, 5, 300, 20_000))
            head = f"POST {target} HTTP/1.1\r\nHost: a\r\nX-Request-Id: {target}\r\n".encode()
            if self._random.random() < 0.5:
                self.to_say += head + b"Content-Length: %d\r\n\r\n" % len(body) + body
            else:
                cut = self._random.randrange(1, len(body))
                chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (body[:cut], body[cut:]))
                self.to_say += head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"

    def act(self, *, may_leave: bool) -> None:
        dice = self._random.random()
        if dice < 0.02 and may_leave:
            self.left = True
            reset(self.socket) if self._random.random() < 0.5 else self.socket.close()
        elif dice < 0.1:
            self.stalled = not self.stalled
        else:
            if not self.to_say and self._random.random() < 0.5:
                self.ask()
            self.say(self._random.choice((1, 10, 100, _ROOM)))

    def answers(self) -> tuple[list[tuple[int, bytes]], bytes]:
        """Whole ones (status and body), and what is behind them."""
        found = []
        rest = self.heard
        while read := _read_message(rest):
            head, body, rest = read
            if int(head[9:12]) != 100:
                found.append((int(head[9:12]), body))
        return found, rest


class Asked(Side):
    """The model's end of a connection."""

    def __init__(self, end: socket.socket) -> None:
        super().__init__(end)
        self.kind = ""  # of the answer that is being given
        self.answered = False  # what is being heard, before it was whole

    @property
    def closed(self) -> bool:
        return self.socket.fileno() < 0

    def close(self, *, hard: bool = False) -> None:
        reset(self.socket) if hard else self.socket.close()


class Models:
    """A model, by all of its connections. Answers a request with its target."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.sides: list[Asked] = []
        self.misdeeds = 0
        self.early: set[bytes] = set()  # targets that were answered before they were whole
        self.unlike: list[bytes] = []  # requests that nobody sent

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def attend(self) -> None:
        """Accept and read."""
        with suppress(BlockingIOError):
            while True:
                self.sides.append(Asked(self.listener.accept()[0]))
        for side in self.sides:
            if not side.closed:
                side.listen()
            if side.ended:
                side.close()
        self.sides = [side for side in self.sides if not side.closed]

    def act(self, *, well: bool) -> None:
        """One of them says something. `well`: nothing but what a good model says."""
        here = [side for side in self.sides if not side.closed]
        if not here:
            return
        side = self._random.choice(here)
        if side.to_say:
            side.say(_ROOM if well else self._random.choice((1, 10, 100, _ROOM)))
        elif side.kind:
            kind, side.kind = side.kind, ""
            if kind in ("until-close", "short", "close"):
                side.close()
        elif whole := _read_message(side.heard):
            head, body, side.heard = whole
            target = head.split(b" ")[1]
            if side.answered:
                side.answered = False
                return
            if not body or body.replace(target + b"|", b"") or side.heard:
                self.unlike.append(head + body + side.heard)
            self._answer(side, target, "length" if well else self._random.choices(KINDS, WEIGHTS)[0])
        elif not well and self._random.random() < 0.05:
            target = side.heard.split(b" ", 2)[1] if b"\r\n\r\n" in side.heard else b""
            if side.answered:
                return
            if target:
                side.answered = True
                self.early.add(target)
                self._answer(side, target, "length")
            else:
                self.misdeeds += 1  # something may just be under way to it
                side.close()

    def _answer(self, side: Asked, target: bytes, kind: str) -> None:
        length = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(target), target)
        if kind in MISDEEDS:
            self.misdeeds += 1
        if kind in ("reset", "hang-up"):
            side.close(hard=kind == "reset")
            return
        side.kind = kind
        side.to_say = {
            "interim": b"HTTP/1.1 100 Continue\r\n\r\n" + length,
            "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
            % (len(target), target),
            "until-close": b"HTTP/1.1 200 OK\r\n\r\n" + target,
            "garbage": b"garbage\r\n\r\n",
            "short": b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + target,
            "close": length.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n"),
        }.get(kind, length)

    def leave(self) -> None:
        """All connections that there are."""
        self.attend()
        for side in self.sides:
            side.close()

    def close(self) -> None:
        self.leave()
        self.listener.close()


def _read_message(data: bytes) -> tuple[bytes, bytes, bytes] | None:
    """Head, body and what is behind them; None where it is not all there."""
    head, end, rest = data.partition(b"\r\n\r\n")
    if not end:
        return None
    length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
    if length:
        count = int(length[1])
        return (head, rest[:count], rest[count:]) if len(rest) >= count else None
    if not re.search(rb"\r\ntransfer-encoding: *chunked", head, re.IGNORECASE):
        return head, b"", rest
    body = b""
    while True:
        size, end, rest = rest.partition(b"\r\n")
        assert not end or re.fullmatch(rb"[0-9a-f]+", size), f"no chunk: {data[:300]!r}"
        count = int(size, 16) if end else 0
        if not end or len(rest) < count + 2:
            return None
        body += rest[:count]
        rest = rest[count + 2 :]
        if not count:
            return head, body, rest


def wait_for_any(sides: Iterable[Side], seconds: float) -> None:
    """Until somebody has heard something, or for so long."""
    select.select([side.socket for side in sides if side.socket.fileno() >= 0], [], [], seconds)
