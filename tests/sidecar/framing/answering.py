"""Has a model give one answer of the corpus, and says what the client got, as a line of text."""

import socket
import threading
from collections.abc import Callable

from tests.sidecar.framing.cases import Answer
from tests.sidecar.framing.observing import PATIENCE, UNREADABLE, Conversation
from tests.sidecar.framing.reading import REFUSED, WAITS, BadAnswerError, RequestStream, read_answer
from tests.sidecar.framing.reading import Answer as Read
from tests.sidecar.live_path.processes import Connection, RawModel

Send = Callable[[socket.socket, bytes], None]
_PROBED = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nprobe"


class ScriptedModel(RawModel):
    """Answers `/case` with `wire`, and all else as a model would."""

    def __init__(self) -> None:
        self.wire, self.ends = b"", False
        self.send: Send = socket.socket.sendall
        self.said = threading.Event()
        self.last: Connection | None = None  # on which the case was answered
        self.reused = False
        super().__init__()
        self.script = self._serve

    def play(self, case: Answer, send: Send) -> None:
        self.wire, self.ends, self.send = case.wire, case.ends, send
        self.said.clear()
        self.reused = False

    def _serve(self, connection: Connection) -> None:
        stream = RequestStream()
        while data := connection.socket.recv(1 << 16):
            for asked in stream.feed(data):
                if asked.target != b"/case":
                    self.reused = self.reused or connection is self.last
                    connection.send(_PROBED)
                    continue
                self.last = connection
                try:
                    self.send(connection.socket, self.wire)
                    if self.ends:
                        connection.socket.shutdown(socket.SHUT_WR)
                finally:
                    self.said.set()


def ask(port: int, model: ScriptedModel, case: Answer, send: Send) -> tuple[str, Read | None]:
    """The outcome in the words of the table, and the answer as the client has read it."""
    model.play(case, send)
    client = Conversation(port)
    try:
        client.socket.sendall(f"{case.method} /case HTTP/{case.version}\r\nHost: a\r\n\r\n".encode())
        answer = client.answer(case.method.encode())
        assert model.said.wait(PATIENCE)
        if answer is None:
            return REFUSED if client.ended else WAITS, None
        if client.ended or answer.closes or not answer.whole or case.version == "1.0":
            while not client.ended and client.more(PATIENCE):
                pass
            end = "closed" if client.ended and not client.received else "kept"
            other = Conversation(port)
            assert other.probe(), "another client is not answered"
            other.socket.close()
        else:
            end = "kept" if client.probe() else "out of step"
    except BadAnswerError:
        return UNREADABLE, None
    finally:
        client.socket.close()
    text = str(answer.status if _is_the_proxys(answer) else answer)
    return f"{text}; {end}; {'reused' if model.reused else 'dropped'}", answer


def _is_the_proxys(answer: Read) -> bool:
    """A refusal of its own: its text is no matter."""
    return answer.status >= 500 and (b"html" in answer.body or answer.body.startswith(b"50") or not answer.body)


def read_by_h11(case: Answer) -> Read | None:
    """What a strict client makes of the model's own bytes, which end there; None where it refuses them."""
    try:
        read = read_answer(case.method.encode(), case.wire, ended=case.ends)
        read = read or read_answer(case.method.encode(), case.wire, ended=True)
    except BadAnswerError:
        return None
    return read[0] if read is not None else None


def alike(outcome: str) -> str:
    """The answer alone: connections are kept and closed by each as it likes, and refusals have many forms."""
    answer = outcome.partition("; ")[0]
    return REFUSED if answer in ("502", "504") else answer
