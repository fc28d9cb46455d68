"""Reference answers on their way to the sidecar that has the prompt: in memory only, in bounds, and for a while.

`join` offers each reference whose pair is not there yet; `app` hands them to the sidecars, of which one has the prompt,
scores both models by it, and sends the pair. Texts are never written to a file: what a restart forgets is sent again by
whoever sent it. It must not know pairs.
"""

import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from modelcanary_gate.protocol import Reference, References

#: Of all texts that wait; the oldest go first.
MOST_BYTES = 32 << 20
#: Sidecars ask every second: whoever has not taken a text by then has lost its prompt.
KEEP_SECONDS = 600.0
#: Of one answer.
_ANSWER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class _Waiting:
    number: int
    at: float
    model: int
    reference: Reference
    size: int


class Relay:
    """Written by the writer's thread, read by the event loop's."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, most_bytes: int = MOST_BYTES) -> None:
        self._clock = clock
        self._most_bytes = most_bytes
        self._process = secrets.token_hex(4)  # numbers mean something within this process only
        self._waiting: deque[_Waiting] = deque()
        self._number = 0
        self._bytes = 0
        self._lock = threading.Lock()

    def offer(self, model: int, id: str, text: str) -> None:
        size = len(text.encode()) + len(id)
        with self._lock:
            self._number += 1
            self._waiting.append(_Waiting(self._number, self._clock(), model, Reference(id, text), size))
            self._bytes += size
            self._forget()

    def since(self, model: int, after: str) -> References:
        """What came for a model after an earlier answer's `next`; all there is, after another process's or nothing."""
        process, _, number = after.partition(".")
        last = int(number) if process == self._process and number.isdecimal() and len(number) < 19 else 0
        found: list[Reference] = []
        size = 0
        with self._lock:
            self._forget()
            newest = self._number
            for waiting in self._waiting:
                if waiting.number <= last or waiting.model != model:
                    continue
                if found and size + waiting.size > _ANSWER_BYTES:
                    newest = waiting.number - 1
                    break
                found.append(waiting.reference)
                size += waiting.size
        return References(f"{self._process}.{newest}", found)

    def _forget(self) -> None:
        oldest = self._clock() - KEEP_SECONDS
        while self._waiting and (self._bytes > self._most_bytes or self._waiting[0].at < oldest):
            self._bytes -= self._waiting.popleft().size
