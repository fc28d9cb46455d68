"""Posts labels to the ledger when they become known, and again while the ledger cannot be reached. Called by `load`."""

import asyncio
import heapq
import json
import ssl
import time
from collections import Counter
from pathlib import Path

from tests.e2e.workloads.client import Client, Failed

_TOKEN = Path("/var/run/secrets/feedback/token")
_AUTHORITY = Path("/var/run/secrets/feedback/ca.crt")
_WAITING = 50_000
_BATCH = 2_000


class Feedback:
    def __init__(self, url: str) -> None:
        base, slash, path = url.partition("/v1/")
        tls = ssl.create_default_context(cafile=str(_AUTHORITY)) if _AUTHORITY.exists() else None
        self._client = Client(base, seconds=10.0, lifetime=30.0, tls=tls)
        self._path = slash + path
        self._due: list[tuple[float, str, int, str]] = []
        self._counts: Counter[str] = Counter()
        self._sent = self._refused = self._retried = self._dropped = 0
        self._last = ""

    def later(self, seconds: float, name: str, index: int, label: str) -> None:
        if len(self._due) >= _WAITING:
            self._dropped += 1
            return
        heapq.heappush(self._due, (time.monotonic() + seconds, name, index, label))

    async def run(self) -> None:
        while True:
            await asyncio.sleep(0.25)
            batch: list[dict[str, object]] = []
            while self._due and self._due[0][0] <= time.monotonic() and len(batch) < _BATCH:
                _, name, index, label = heapq.heappop(self._due)
                batch.append({"id": name, "index": index, "label": label})
            if batch:
                await self._post(json.dumps(batch).encode(), len(batch))

    async def _post(self, body: bytes, labels: int) -> None:
        """Until they are taken or refused: a label that was lost with a ledger would look like one that never came."""
        while True:
            token = _TOKEN.read_text().strip() if _TOKEN.exists() else ""
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            try:
                answer = await self._client.post(self._path, body, headers, keep=True)
            except Failed as error:
                self._last = str(error)
            else:
                if answer.status == 202:
                    self._sent += labels
                    self._counts.update(json.loads(answer.body))
                    return
                self._last = f"{answer.status} {answer.body[:300].decode(errors='replace')}"
                if answer.status < 500:
                    self._refused += labels  # 404 before the first run, when nothing is known of the model
                    return
            self._retried += 1
            await asyncio.sleep(0.5)

    def report(self) -> dict[str, object]:
        return {
            **{"sent": self._sent, "refused": self._refused, "retried": self._retried, "dropped": self._dropped},
            **{"counts": dict(self._counts), "last_trouble": self._last},
        }
