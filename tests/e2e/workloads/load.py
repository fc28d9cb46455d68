"""The users of one scenario, and what turns out to be true: an open loop of requests, each answer checked.

Runs in a pod of each scenario: standard library only. `LOAD` in the environment is `Habits` as JSON. The harness reads
`GET /report` and changes habits by `GET /set?rate=50`, both by way of the API server.
"""

import asyncio
import json
import os
import random
import signal
import time
from dataclasses import dataclass, field, fields
from pathlib import Path
from urllib.parse import parse_qsl

from tests.e2e.workloads.client import Answer, Client, Failed
from tests.e2e.workloads.feedback import Feedback
from tests.e2e.workloads.world import World, world

_PORT = 8000
_FLIGHT = 64
_LISTED = 20
_SECONDS = 10.0


@dataclass(slots=True)
class Habits:
    service: str = ""  # the URL that users know
    path: str = ""
    feedback: str = ""  # where labels go; empty: nobody sends any
    rows: str = ""  # a file of rows and labels, instead of `truth`
    rate: float = 30.0  # requests a second
    largest: int = 4  # instances of a request
    one_shot: float = 0.3  # the share of requests with a connection of their own
    lifetime: float = 10.0  # seconds that a kept-alive connection is used
    delay_least: float = 0.0  # seconds from the answer to its label
    delay_most: float = 0.5
    missing: float = 0.05  # of the labels, that never come
    twice: float = 0.02
    noisy: float = 0.0  # of the labels, that are wrong
    seed: int = 1


@dataclass(slots=True)
class Version:
    """What users got of one version of the model."""

    answers: int = 0
    first: float = 0.0
    last: float = 0.0


@dataclass(slots=True)
class Tally:
    waited: int = 0  # requests before the first that was answered: nobody serves yet, or the network is not there
    sent: int = 0
    answered: int = 0
    failed: int = 0
    failures: list[str] = field(default_factory=list)
    versions: dict[str, Version] = field(default_factory=dict)
    slowest: float = 0.0

    def failure(self, what: str) -> None:
        self.failed += 1
        if len(self.failures) < _LISTED:
            self.failures.append(f"{time.time():.3f} {what}")


class Users:
    def __init__(self, habits: Habits) -> None:
        self.habits = habits
        self.tally = Tally()
        self._random = random.Random(habits.seed)
        self._world: World = world(habits.rows)
        self._client = Client(habits.service, seconds=_SECONDS, lifetime=habits.lifetime)
        self.feedback = Feedback(habits.feedback) if habits.feedback else None
        self._prefix = f"{habits.seed:x}-{int(time.time()) & 0xFFFFFF:x}"

    async def run(self) -> None:
        await self._first()
        room = asyncio.Semaphore(_FLIGHT)
        async with asyncio.TaskGroup() as tasks:
            if self.feedback is not None:
                tasks.create_task(self.feedback.run())
            due = time.monotonic()
            while True:
                due = max(due, time.monotonic() - 1.0) + self._random.expovariate(max(self.habits.rate, 0.01))
                await asyncio.sleep(min(max(0.0, due - time.monotonic()), 1.0))
                if self.habits.rate <= 0:
                    due = time.monotonic()
                    continue
                await room.acquire()
                self.tally.sent += 1
                tasks.create_task(self._ask(self.tally.sent)).add_done_callback(lambda _: room.release())

    async def _first(self) -> None:
        """Users come when there is something to come to."""
        while True:
            request = self._world.request("first", self._random, 1)
            try:
                answer = await self._client.post(self.habits.path, request.body, {}, keep=False)
                if answer.status == 200:
                    return
            except Failed:
                pass
            self.tally.waited += 1
            await asyncio.sleep(0.2)

    async def _ask(self, number: int) -> None:
        habits, name = self.habits, f"{self._prefix}-{number}"
        request = self._world.request(name, self._random, self._random.randint(1, habits.largest))
        keep = self._random.random() >= habits.one_shot
        began = time.monotonic()
        try:
            answer = await self._client.post(habits.path, request.body, {"X-Request-Id": name}, keep=keep)
            version = self._checked(name, answer, len(request.labels))
        except Failed as error:
            self.tally.failure(f"{name} {'kept-alive' if keep else 'one-shot'}: {error}")
            return
        self.tally.slowest = max(self.tally.slowest, time.monotonic() - began)
        self.tally.answered += 1
        seen = self.tally.versions.setdefault(version, Version(first=time.time()))
        seen.answers += 1
        seen.last = time.time()
        if self.feedback is not None:
            for index, label in enumerate(request.labels):
                self._label(self.feedback, name, index, label)

    def _checked(self, name: str, answer: Answer, rows: int) -> str:
        """The version that answered. Raises Failed where the answer is not one to this request."""
        if answer.status != 200:
            raise Failed(f"{answer.status} {answer.body[:200]!r}")
        try:
            said = json.loads(answer.body)
            output = said["outputs"][0]
            if said["id"] != name:
                raise Failed(f"the answer is for request {said['id']}")
            if output["shape"][0] != rows or len(output["data"]) != rows * output["shape"][1]:
                raise Failed(f"{output['shape']} for {rows} rows")
            for at in range(0, len(output["data"]), output["shape"][1]):
                total = sum(output["data"][at : at + output["shape"][1]])
                if not 0.99 < total < 1.01:  # NaN is not either
                    raise Failed(f"probabilities sum to {total}")
            return str(said.get("model_version") or "unnamed")
        except (ValueError, LookupError, TypeError) as error:
            raise Failed(f"200, and no prediction: {error!r} {answer.body[:200]!r}") from error

    def _label(self, feedback: Feedback, name: str, index: int, label: str) -> None:
        chance, habits = self._random, self.habits
        if chance.random() < habits.missing:
            return
        said = chance.choice(self._world.classes) if chance.random() < habits.noisy else label
        for _ in range(2 if chance.random() < habits.twice else 1):
            feedback.later(chance.uniform(habits.delay_least, habits.delay_most), name, index, said)

    # --- the harness's side

    async def control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split(" ")
        path, _, query = line[1].partition("?")
        if path == "/set":
            kinds = {each.name: type(getattr(self.habits, each.name)) for each in fields(self.habits)}
            for name, value in parse_qsl(query):
                setattr(self.habits, name, kinds[name](value))
        body = json.dumps(self.report()).encode()
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
            + f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        await writer.drain()
        writer.close()

    def report(self) -> dict[str, object]:
        tally = self.tally
        versions = {
            name: {"answers": seen.answers, "first": seen.first, "last": seen.last}
            for name, seen in tally.versions.items()
        }
        return {
            **{name: getattr(tally, name) for name in ("waited", "sent", "answered", "failed", "failures", "slowest")},
            "versions": versions,
            "labels": self.feedback.report() if self.feedback is not None else {},
        }


async def main() -> None:
    users = Users(Habits(**json.loads(os.environ["LOAD"])))
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, os._exit, 0)
    await asyncio.start_server(users.control, "0.0.0.0", int(os.environ.get("LOAD_PORT", _PORT)))
    print(f"asking {users.habits.service}{users.habits.path}", Path.cwd(), flush=True)
    await users.run()


if __name__ == "__main__":
    asyncio.run(main())
