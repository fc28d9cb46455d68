"""Prompts that wait for their reference, and references that came before their prompt: bounded, and in memory only.

`session` owns one per run. A prompt is let go of when it is scored, when newer ones need its room, or with the run. It
must not know models.
"""

import sys
from collections import OrderedDict
from dataclasses import dataclass

from modelcanary_sidecar.llm.prompt import Prompt

#: Of all prompts together. A sidecar's memory is small, and users' words are kept no longer than is of use.
MOST_BYTES = 16 << 20
#: Of references without a prompt: most are for the prompts of other pods.
_MOST_EARLY = 256
MOST_EARLY_BYTES = 4 << 20
_EARLY_SECONDS = 60.0
_OVERHEAD = 512  # of a prompt in memory, beyond its text


@dataclass(frozen=True, slots=True)
class Kept:
    """A request that a reference may come for."""

    id: str
    time: float  # when it came, seconds since the epoch
    prompt: Prompt


class Memory:
    def __init__(self, most_bytes: int = MOST_BYTES, most_early_bytes: int = MOST_EARLY_BYTES) -> None:
        self._most_bytes, self._most_early_bytes = most_bytes, most_early_bytes
        self._prompts: OrderedDict[str, Kept] = OrderedDict()
        self._early: OrderedDict[str, tuple[float, str]] = OrderedDict()
        self.bytes = 0
        self.early_bytes = 0

    def __len__(self) -> int:
        return len(self._prompts)

    def keep(self, kept: Kept) -> int:
        """Returns how many prompts were forgotten for it, itself where its id is there already or it is too large."""
        size = _size(kept)
        if kept.id in self._prompts or size > self._most_bytes:
            return 1
        self._prompts[kept.id] = kept
        self.bytes += size
        forgotten = 0
        while self.bytes > self._most_bytes:
            self._let_go(next(iter(self._prompts)))
            forgotten += 1
        return forgotten

    def take(self, id: str) -> Kept | None:
        """The prompt that a reference is for; it is not kept any longer."""
        return self._let_go(id) if id in self._prompts else None

    def keep_early(self, id: str, reference: str, now: float) -> int:
        """A reference whose request may still be under way; the first of an id stays.

        Returns how many were forgotten for it before their time, itself where it is too large.
        """
        while self._early and next(iter(self._early.values()))[0] < now - _EARLY_SECONDS:
            self.take_early(next(iter(self._early)))
        if id in self._early:
            return 0
        if text_size(reference) > self._most_early_bytes:
            return 1
        self._early[id] = (now, reference)
        self.early_bytes += text_size(reference)
        forgotten = 0
        while len(self._early) > _MOST_EARLY or self.early_bytes > self._most_early_bytes:
            self.take_early(next(iter(self._early)))
            forgotten += 1
        return forgotten

    def take_early(self, id: str) -> str | None:
        found = self._early.pop(id, None)
        if found is None:
            return None
        self.early_bytes -= text_size(found[1])
        return found[1]

    def _let_go(self, id: str) -> Kept:
        kept = self._prompts.pop(id)
        self.bytes -= _size(kept)
        return kept


def text_size(text: str) -> int:
    """Bytes in memory: up to four for each character."""
    return sys.getsizeof(text)


def _size(kept: Kept) -> int:
    return kept.prompt.size + text_size(kept.id) + _OVERHEAD
