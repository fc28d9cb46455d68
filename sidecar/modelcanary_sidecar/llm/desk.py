"""Where the scorer deals with language models: a `Session` per run, and none where the model has classes.

`mirror` owns one, lets it follow the instructions, and hands it captured requests. It must not know what a text is.
"""

import asyncio
import logging
from collections.abc import Callable

from modelcanary_gate.protocol import Instructions, Pair
from modelcanary_gate.spec import ProtocolName
from modelcanary_gate.vocabulary import Role
from modelcanary_sidecar.asking import candidate_of
from modelcanary_sidecar.capture import Captured
from modelcanary_sidecar.llm.server import Asking, Server
from modelcanary_sidecar.llm.session import Fetch, Session, settle
from modelcanary_sidecar.pairing import KeyMint
from modelcanary_sidecar.settings import Address
from modelcanary_sidecar.shadow import Shadow, ShadowLimits
from modelcanary_sidecar.tally import Tally

logger = logging.getLogger(__name__)

#: The baseline answers users: scoring takes no more of it than this many requests at a time.
_CONNECTIONS = 4
#: Of what each of the models is asked at a time and answers: 100,000 tokens on every connection.
_HELD_BYTES = 32 << 20


def generates(instructions: Instructions) -> bool:
    """Whether these are of a language model."""
    return bool(instructions.run) and instructions.model.protocol == ProtocolName.OPENAI


class Desk:
    """`emit` takes pairs, `drop` reasons, both with the run; `fetch` asks the ledger for references."""

    def __init__(
        self,
        baseline: Address,
        keys: KeyMint,
        tally: Tally,
        emit: Callable[[str, Pair], None],
        drop: Callable[[str, str], None],
        fetch: Fetch,
    ) -> None:
        self._baseline = baseline
        self._keys, self._tally = keys, tally
        self._emit, self._drop, self._fetch = emit, drop, fetch
        self._instructions = Instructions(version=0)
        self._session: Session | None = None

    def follow(self, instructions: Instructions, tasks: asyncio.TaskGroup) -> None:
        """Begins anew where another run, other servers or other limits are meant: prompts are then forgotten."""
        before, self._instructions = self._instructions, instructions
        if _measured(before) == _measured(instructions):
            return
        self.stop()
        if not generates(instructions) or not instructions.candidate:
            return
        found = candidate_of(instructions)
        if found is None:
            return
        host, port, prefix = found
        mirror = instructions.mirror
        # An answer lists every token of what was sent, with its number, at many times the bytes of its text.
        limits = ShadowLimits(
            timeout=mirror.timeout,
            connections=_CONNECTIONS,
            body_bytes=64 * mirror.maxBodyBytes,
            held_bytes=_HELD_BYTES,
        )
        user, mirrored = (Role.CANDIDATE, Role.BASELINE) if instructions.observing else (Role.BASELINE, Role.CANDIDATE)
        own = Shadow[Asking](self._baseline.host, self._baseline.port, limits, settle, settle)
        other = Shadow[Asking](host, port, limits, settle, settle)
        patch = instructions.model.requestPatch
        servers = {
            user: Server(user, own, b"", patch, limits.body_bytes),
            mirrored: Server(mirrored, other, prefix, patch, limits.body_bytes),
        }
        self._session = Session(
            instructions, servers, [own, other], self._keys, self._tally, self._emit, self._drop, self._fetch
        )
        tasks.create_task(self._session.run())

    def stop(self) -> None:
        if self._session is not None:
            self._session.stop()
            self._session = None

    @property
    def open(self) -> bool:
        """Whether captured requests are for it."""
        return self._session is not None

    @property
    def pending(self) -> int:
        return self._session.busy if self._session is not None else 0

    def take(self, captured: Captured) -> None:
        if self._session is not None:
            self._session.take(captured)

    def gauges(self) -> dict[str, float]:
        return self._session.gauges() if self._session is not None else {}


def _measured(instructions: Instructions) -> tuple[object, ...]:
    return (
        instructions.run,
        instructions.candidate,
        instructions.model,
        instructions.mirror,
        instructions.observing,
    )
