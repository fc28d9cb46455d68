"""Users and what turns out to be true: replays the kept rows as live requests and sends their labels late.

Called by `rounds`. Every answer is checked as a user would see it. Knows the proxy's URL and the feedback URL,
and nothing of candidate, evidence or verdict.
"""

import asyncio
import heapq
import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx
import numpy as np

from demo.models import Digits
from demo.serving import INFER

CLASSES = 10
LARGEST_REQUEST = 4  # rows
TIME_LIMIT = 5.0
IN_FLIGHT = 32
WAITING_LABELS = 20_000


@dataclass(frozen=True, slots=True)
class Habits:
    """How the users and the senders of labels of this demo behave."""

    requests_per_second: float = 60.0
    label_delay: tuple[float, float] = (0.2, 4.0)  # seconds, uniform: so labels overtake each other
    label_missing: float = 0.10
    label_twice: float = 0.05
    seed: int = 7


@dataclass(slots=True)
class Tally:
    """What happened, as the users and the senders of labels saw it."""

    requests: int = 0
    rows: int = 0
    failures: int = 0
    first_failures: list[str] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    labels_due: int = 0
    labels_withheld: int = 0
    labels_sent: int = 0  # with those that were sent twice
    labels_refused: int = 0
    labels_dropped: int = 0  # no room to keep them until they are due
    counts: Counter[str] = field(default_factory=Counter)  # the ledger's answers, summed

    def failed(self, what: str) -> None:
        self.failures += 1
        self._note(what)

    def refused(self, labels: int, what: str) -> None:
        self.labels_refused += labels
        self._note(f"labels: {what}")

    def _note(self, what: str) -> None:
        if len(self.first_failures) < 5:
            self.first_failures.append(what)

    def latency(self, quantile: float) -> float:
        return float(np.quantile(self.latencies, quantile)) if self.latencies else float("nan")


class Traffic:
    """One round's users and senders of labels. `run` until `stop` is called; `tally` says what happened."""

    def __init__(self, digits: Digits, live: str, feedback: str, prefix: str, habits: Habits) -> None:
        self.tally = Tally()
        self._digits = digits
        self._live = live
        self._feedback = feedback
        self._prefix = prefix
        self._habits = habits
        self._random = random.Random(habits.seed)
        self._stopping = asyncio.Event()
        self._due: list[tuple[float, str, int, str]] = []  # a heap by time: when, id, index, label

    def stop(self) -> None:
        """No new requests; those in flight are answered, and labels that are not due yet are dropped."""
        self._stopping.set()

    async def run(self) -> None:
        limits = httpx.Limits(max_connections=IN_FLIGHT, max_keepalive_connections=IN_FLIGHT)
        async with (
            httpx.AsyncClient(base_url=self._live, limits=limits, timeout=TIME_LIMIT) as users,
            httpx.AsyncClient(timeout=TIME_LIMIT) as senders,
            asyncio.TaskGroup() as tasks,
        ):
            tasks.create_task(self._send_labels(senders))
            tasks.create_task(self._send_requests(users))

    async def _send_requests(self, users: httpx.AsyncClient) -> None:
        """An open loop: a slow answer does not hold back the next request, up to a bound."""
        room = asyncio.Semaphore(IN_FLIGHT)
        order = self._passes()
        async with asyncio.TaskGroup() as requests:
            at = time.monotonic()
            while not self._stopping.is_set():
                rows = [next(order) for _ in range(self._random.randint(1, LARGEST_REQUEST))]
                await room.acquire()
                number = self.tally.requests
                self.tally.requests += 1
                self.tally.rows += len(rows)
                request = requests.create_task(self._ask(users, f"{self._prefix}-{number:06d}", rows))
                request.add_done_callback(lambda _: room.release())
                at = max(at, time.monotonic() - 1.0) + self._random.expovariate(self._habits.requests_per_second)
                await self._pause(at - time.monotonic())

    async def _ask(self, users: httpx.AsyncClient, name: str, rows: list[int]) -> None:
        values = self._digits.rows[rows]
        body = {
            "inputs": [{"name": "x", "shape": list(values.shape), "datatype": "FP32", "data": values.ravel().tolist()}]
        }
        began = time.monotonic()
        try:
            answer = await users.post(INFER, json=body, headers={"X-Request-Id": name})
        except httpx.HTTPError as error:
            self.tally.failed(f"{name}: {type(error).__name__} {error}")
            return
        self.tally.latencies.append(time.monotonic() - began)
        if answer.status_code != httpx.codes.OK:
            self.tally.failed(f"{name}: {answer.status_code} {answer.text[:200]}")
            return
        if not _has_probabilities(answer, len(rows)):
            self.tally.failed(f"{name}: 200, but not {len(rows)} rows of {CLASSES} probabilities")
            return
        self._plan_labels(name, rows)

    def _plan_labels(self, name: str, rows: list[int]) -> None:
        for index, row in enumerate(rows):
            self.tally.labels_due += 1
            if self._random.random() < self._habits.label_missing:
                self.tally.labels_withheld += 1
                continue
            for _ in range(2 if self._random.random() < self._habits.label_twice else 1):
                if len(self._due) >= WAITING_LABELS:
                    self.tally.labels_dropped += 1
                    continue
                when = time.monotonic() + self._random.uniform(*self._habits.label_delay)
                heapq.heappush(self._due, (when, name, index, str(self._digits.labels[row])))

    async def _send_labels(self, senders: httpx.AsyncClient) -> None:
        while not self._stopping.is_set():
            now = time.monotonic()
            batch = []
            while self._due and self._due[0][0] <= now:
                _, name, index, label = heapq.heappop(self._due)
                batch.append({"id": name, "index": index, "label": label, "source": "demo"})
            if batch:
                await self._post_labels(senders, batch)
            await self._pause(0.25)

    async def _post_labels(self, senders: httpx.AsyncClient, batch: list[dict[str, object]]) -> None:
        self.tally.labels_sent += len(batch)
        try:
            answer = await senders.post(self._feedback, json=batch)
        except httpx.HTTPError as error:
            self.tally.refused(len(batch), f"{type(error).__name__} {error}")
            return
        if answer.status_code != httpx.codes.ACCEPTED:
            self.tally.refused(len(batch), f"{answer.status_code} {answer.text[:200]}")
            return
        self.tally.counts.update(answer.json())

    async def _pause(self, seconds: float) -> None:
        if seconds > 0:
            try:
                await asyncio.wait_for(self._stopping.wait(), seconds)
            except TimeoutError:
                return

    def _passes(self) -> Iterator[int]:
        """Row numbers, pass after pass, each pass in an order of its own."""
        while True:
            rows = list(range(len(self._digits.rows)))
            self._random.shuffle(rows)
            yield from rows


def _has_probabilities(answer: httpx.Response, rows: int) -> bool:
    try:
        output = answer.json()["outputs"][0]
        return output["shape"] == [rows, CLASSES] and len(output["data"]) == rows * CLASSES
    except (json.JSONDecodeError, LookupError, TypeError):
        return False
