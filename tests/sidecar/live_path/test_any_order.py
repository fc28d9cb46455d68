"""Whatever comes in whatever order: requests are answered once and in order, or the connection ends.

The ports of the stage object by themselves to a second pause, a second resume and a word after the end.
"""

import random

import pytest

KINDS = ("content-length", "chunked", "head", "early", "until-close", "garbage", "short", "close")


class Play:
    """Clients, models and the clock act at random; what each client was told is kept."""

    def __init__(self, stage, seed: int, weight: float) -> None:
        self.random = random.Random(seed)
        self.stage = stage
        stage.mirror(weight=weight, grace=0.05)
        self.clients = [stage.client() for _ in range(3)]
        self.to_send = [b"" for _ in self.clients]
        self.sent = [0 for _ in self.clients]
        self.told = [b"" for _ in self.clients]
        self.stalled = [False for _ in self.clients]
        self.answers: dict[object, bytes] = {}
        self.last: set[object] = set()  # models that close after the answer that they give

    def request(self, client: int) -> bytes:
        n = self.sent[client]
        self.sent[client] += 1
        head = f"POST /{client}/{n} HTTP/1.1\r\nHost: a\r\nX-Request-Id: {client}-{n}\r\n"
        body = b"b" * self.random.randrange(1, 300)
        if self.random.random() < 0.5:
            return head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body
        return head.encode() + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)

    def act_client(self) -> None:
        number = self.random.randrange(len(self.clients))
        client = self.clients[number]
        if client.port.ended or client.conversation.closing:
            return
        dice = self.random.random()
        if dice < 0.02:
            client.leaves()
            client.port.ended = client.port.ended or "left"
        elif dice < 0.1:
            self.stalled[number] = not self.stalled[number]
            if self.stalled[number]:
                client.conversation.pause_writing()
            else:
                client.conversation.resume_writing()
        elif client.port.reading:
            if not self.to_send[number]:
                self.to_send[number] = b"".join(self.request(number) for _ in range(self.random.randrange(1, 4)))
            cut = self.random.randrange(1, len(self.to_send[number]) + 1)
            piece, self.to_send[number] = self.to_send[number][:cut], self.to_send[number][cut:]
            client.sends(piece)

    def act_model(self) -> None:
        models = [m for m in self.stage.models if not m.port.ended and not m.connection.closed]
        if not models:
            return
        model = self.random.choice(models)
        model.gets()
        if self.answers.get(model):
            if model.port.reading:
                cut = self.random.randrange(1, len(self.answers[model]) + 1)
                piece, self.answers[model] = self.answers[model][:cut], self.answers[model][cut:]
                model.sends(piece)
                if not self.answers[model] and model in self.last and not model.port.ended:
                    model.closes()
                    model.port.ended = "closed"
            return
        exchange = model.connection.exchange
        if exchange is None:
            if self.random.random() < 0.1:
                model.closes()
            return
        if self.random.random() < 0.05:
            model.closes(self.random.choice([None, ConnectionResetError()]))
            model.port.ended = "closed"
            return
        kind = self.random.choices(KINDS, (10, 10, 2, 1, 1, 1, 1, 1))[0]
        if not exchange.complete and kind != "early":
            return
        body = exchange.head.target
        length = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
        if kind in ("until-close", "short"):
            self.last.add(model)
        self.answers[model] = {
            "content-length": length + body,
            "early": length + body,
            "head": b"HTTP/1.1 100 Continue\r\n\r\n" + length + body,
            "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
            % (len(body), body),
            "until-close": b"HTTP/1.1 200 OK\r\n\r\n" + body,
            "garbage": b"garbage\r\n\r\n",
            "short": b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + body,
            "close": b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body),
        }[kind]

    def act(self) -> None:
        dice = self.random.random()
        if dice < 0.45:
            self.act_client()
        elif dice < 0.9:
            self.act_model()
        elif dice < 0.97 and self.stage.asked:
            self.stage.open() if self.random.random() < 0.9 else self.stage.refuse()
        else:
            self.stage.passes(self.random.choice([0.02, 0.1, 1.0]))
        for model in self.stage.models:  # what was ended is gone
            if model.port.ended in ("abort", "close") and not getattr(model, "gone", False):
                model.gone = True
                model.closes()
        for number, client in enumerate(self.clients):
            self.told[number] += client.gets()
            if client.port.ended in ("abort", "close"):
                client.port.ended = "gone"
                client.leaves()


@pytest.mark.parametrize("weight", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(60))
def test_answers_belong_to_their_requests(make_stage, read_answers, seed: int, weight: float) -> None:
    play = Play(make_stage(connections=2, waiting=3), seed, weight)
    for _ in range(400):
        play.act()
    answered = 0
    for number, told in enumerate(play.told):
        answers = read_answers(told)
        for n, (status, _, body) in enumerate(answers):
            if status == 200:
                assert body == b"/%d/%d" % (number, n)
                answered += 1
            else:
                assert status in (400, 502, 503, 504)
                assert n == len(answers) - 1
    if not any(client.port.ended for client in play.clients):
        assert answered > 3
    for captured in play.stage.captured:
        assert captured.target.decode().strip("/").replace("/", "-") == captured.id
        if captured.baseline.status == 200:
            assert captured.baseline.body in (captured.target, b"")
    # and when all have left, nothing is left
    for client in play.clients:
        if client.conversation in play.stage.state.conversations:
            client.leaves()
    play.stage.asked = []
    play.stage.passes(120.0)
    for model in play.stage.models:
        if not getattr(model, "gone", False) and not model.connection.closed:
            assert model.connection.exchange is None
    assert not play.stage.state.conversations
    assert not play.stage.state.baseline.busy
