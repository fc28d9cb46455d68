"""One round of the demo: `modelcanary run` as a user starts it, users in front, labels behind, until a verdict.

Called by `__main__`.
"""

import asyncio
import contextlib
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.errors import DemoError
from demo.models import Digits
from demo.processes import Process
from demo.traffic import Habits, Tally, Traffic

SPEC = Path(__file__).parent / "canary.yaml"
START_LIMIT = 60.0
#: maxDuration of canary.yaml and some: `modelcanary run` ends by itself before this.
VERDICT_LIMIT = 240.0
END_LIMIT = 30.0
READ_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class Round:
    title: str
    model: str  # of `models`
    expected: str  # verdict


@dataclass(frozen=True, slots=True)
class Result:
    """What `modelcanary run` said, and what the users saw meanwhile."""

    round: Round
    verdict: dict[str, Any]
    exit_code: int | None
    seconds: float  # from the first request to the verdict
    report: Path
    tally: Tally

    @property
    def right(self) -> bool:
        code = {"Promote": 0, "RollBack": 1}[self.round.expected]
        return (
            self.verdict.get("verdict") == self.round.expected
            and self.exit_code == code
            and self.tally.failures == 0
            and self.tally.requests > 0
        )


async def play(this: Round, digits: Digits, baseline: str, candidate: str, out: Path, habits: Habits) -> Result:
    """Raises DemoError when `modelcanary run` ends without a verdict."""
    report = out / f"{this.model}.html"
    log = out / f"{this.model}.log"
    command = [
        *(sys.executable, "-m", "modelcanary_cli", "run"),
        *("--spec", str(SPEC)),
        *("--baseline", baseline, "--candidate", candidate),
        *("--listen", "127.0.0.1:0", "--feedback", "127.0.0.1:0"),
        *("--state", str(out / f"{this.model}-state"), "--report", str(report)),
        *("--json", "--keep-serving"),
    ]
    print("$ modelcanary", " ".join(command[3:]))
    with Process(command, log, pipe=True) as process:
        events = await _lines(process)
        started = await _event(events, "started", START_LIMIT)
        if started is None:
            raise DemoError(f"`modelcanary run` does not start; the end of {log}:\n{process.tail()}")
        traffic = Traffic(digits, started["listen"], started["feedback"], this.model, habits)
        began = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(traffic.run())
            try:
                verdict = await _event(events, "verdict", VERDICT_LIMIT)
            finally:
                traffic.stop()
        seconds = time.monotonic() - began
        if verdict is None:
            raise DemoError(f"`modelcanary run` gave no verdict; the end of {log}:\n{process.tail()}")
        # The proxy goes on serving after the verdict; the users have left, so now it may end.
        process.interrupt()
        exit_code = await asyncio.to_thread(process.wait, END_LIMIT)
    return Result(this, verdict, exit_code, seconds, report, traffic.tally)


async def _lines(process: Process) -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=READ_LIMIT)
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, process.stdout)
    return reader


async def _event(events: asyncio.StreamReader, wanted: str, limit: float) -> dict[str, Any] | None:
    """The next event of that kind; those before it are shown. None when it does not come."""
    shown = ""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limit):
            while line := await events.readline():
                event: dict[str, Any] = json.loads(line)
                if event["event"] == wanted:
                    return event
                text = _text(event)
                if text != shown:
                    print(text, flush=True)
                    shown = text
    return None


def _text(event: dict[str, Any]) -> str:
    if event["event"] != "look":
        return f"  {event['event']}: {event['message']}"
    if event["delta"] is None:
        return f"  {event['reason']}"
    why = f": {event['message']}" if event["reason"] == "GuardVeto" else ""
    return (
        f"  {event['judged']:5d} pairs judged, delta {event['delta']:+.4f}; roll back "
        f"{event['rollbackEvidence']:.2g} of {event['rollbackThreshold']:.0f}, promote "
        f"{event['promotionEvidence']:.2g} of {event['promotionThreshold']:.0f}: {event['reason']}{why}"
    )
