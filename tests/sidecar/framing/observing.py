"""Plays one case against a proxy over a real connection, and says what came of it as a line of text."""

import select
import socket
import time
from collections.abc import Callable
from contextlib import suppress

from tests.sidecar.framing.peers import Kernel, StrictModel
from tests.sidecar.framing.reading import CLOSED, KEPT, REFUSED, WAITS, Answer, BadAnswerError, read_answer, render

Send = Callable[[socket.socket, bytes], None]
PROBE = b"GET /probe HTTP/1.1\r\nHost: a\r\n\r\n"
#: For what is not expected to come: only a case that fails waits so long.
PATIENCE = 15.0
UNREADABLE = "unreadable"  # by the model, which is strict


class Conversation:
    """A client that reads answers strictly."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.received = b""
        self.ended = False
        self.interim: list[int] = []

    def answer(self, method: bytes) -> Answer | None:
        """The next one; None where the connection ended, or nothing came."""
        deadline = time.monotonic() + PATIENCE
        while True:
            if self.received or self.ended:
                read = read_answer(method, self.received, ended=self.ended) if self.received else None
                if read is not None:
                    answer, self.received = read
                    self.interim += answer.interim
                    return answer
            left = deadline - time.monotonic()
            if self.ended or not self.more(left):
                return None

    def more(self, seconds: float) -> bool:
        """Read what comes within that time; False where nothing did. Sets `ended`."""
        if not select.select([self.socket], [], [], max(0.0, seconds))[0]:
            return False
        try:
            data = self.socket.recv(1 << 16)
        except ConnectionError:
            data = b""
        self.received += data
        self.ended = not data
        return True

    def probe(self) -> bool:
        """Whether the connection serves on, and in step."""
        with suppress(OSError):
            self.socket.sendall(PROBE)
        answer = self.answer(b"GET")
        return answer is not None and answer.status == 200 and answer.body in (b"GET /probe", b"probe")


def _end(client: Conversation, kernel: Kernel, expected: str, last: Answer | None) -> str:
    if last is not None and last.status != 200:
        assert client.answer(b"GET") is None, "an answer behind a refusal"
        return str(last.status) if client.ended else f"{last.status}, kept"
    if expected == WAITS:
        kernel.await_read(client.socket)
        if client.more(0.0) and client.ended:
            return CLOSED
        client.socket.shutdown(socket.SHUT_WR)
        while not client.ended and client.more(PATIENCE):
            pass
        return WAITS if client.ended and not client.received else REFUSED
    if expected == KEPT and not client.ended and client.probe():
        return KEPT
    refusal = client.answer(b"GET") if not client.ended else None
    if refusal is not None:
        return str(refusal.status)
    if not client.ended:
        return WAITS
    return CLOSED if last is not None and last.closes else REFUSED


def observe(port: int, model: StrictModel, kernel: Kernel, wire: bytes, expected: str, send: Send) -> str:
    """What becomes of `wire`, in the words of `expected`, which says for how many answers to wait."""
    *parts, end = expected.split("; ")
    model.forget()
    client = Conversation(port)
    try:
        with suppress(ConnectionError):
            send(client.socket, wire)
        answers: list[Answer] = []
        for part in parts:
            answer = client.answer(part.split()[0].encode())
            if answer is None or answer.status != 200:
                answers += [answer] if answer is not None else []
                break
            answers.append(answer)
        ended = _end(client, kernel, end, answers[-1] if answers else None)
    except BadAnswerError:
        return REFUSED if expected == REFUSED else UNREADABLE
    finally:
        client.socket.close()
    asked = [one for one in model.asked if one.target != b"/probe"]
    for one, answer in zip(asked, answers, strict=False):
        if answer.status == 200 and one.method != b"HEAD" and answer.body != one.echo():
            return f"the answer to another request: {answer} to {one}"
    if model.errors:
        return UNREADABLE
    return render(asked, ended)


def alike(outcome: str) -> str:
    """Without what two that refuse may do differently: with which status, or by hanging up."""
    *parts, end = outcome.split("; ")
    return render(parts, REFUSED if end[:1].isdigit() else end)
