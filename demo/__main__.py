"""`python -m demo`: what `make demo` runs. Exit code 0 when both verdicts are right and no user saw a failure."""

import asyncio
import shutil
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

from demo import summary
from demo.environments import KSERVE, MLSERVER
from demo.errors import DemoError
from demo.files import write_predictions
from demo.models import trained
from demo.rounds import Result, Round, play
from demo.serving import kserve, mlserver
from demo.traffic import Habits

ROUNDS = (
    Round("A: 20% of labels shuffled", "shuffled", "RollBack"),
    Round("B: a better model", "better", "Promote"),
)


def say(line: str) -> None:
    print(line, flush=True)


def demonstrate(out: Path) -> bool:
    """Whether everything went as it should."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    serving = MLSERVER.installed(say)
    candidate_serving = KSERVE.installed(say)
    digits = trained(candidate_serving, say)
    write_predictions(digits, out)
    say(f"Offline, on the {len(digits.rows)} rows kept from training:\n{summary.offline(digits)}")
    say("What follows is a replay: these rows, over and over, sent as live requests, with their labels sent late.\n")
    results: list[Result] = []
    with ExitStack() as servers:
        baseline = mlserver(serving, digits.model("baseline"), out / "baseline")
        servers.enter_context(baseline.process)
        say(f"Baseline on MLServer at {baseline.url}")
        for this in ROUNDS:
            with ExitStack() as one:
                candidate = kserve(candidate_serving, digits.model(this.model), out / f"{this.model}-server")
                one.enter_context(candidate.process)
                say(f"\nCandidate {this.title}, on KServe's server at {candidate.url}")
                result = asyncio.run(play(this, digits, baseline.url, candidate.url, out, Habits()))
            results.append(result)
            say(f"  {result.verdict['verdict']}: {result.verdict['message']}")
    say("\n" + summary.table(results))
    for result in results:
        for failure in result.tally.first_failures:
            say(f"  {result.round.title}: {failure}")
        say(f"Report: {result.report}")
    return all(result.right for result in results)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    signal.signal(signal.SIGTERM, _interrupt)
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("demo-out")
    try:
        return 0 if demonstrate(out.resolve()) else 1
    except DemoError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: interrupted; everything it started has ended", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
