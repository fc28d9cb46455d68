"""What has become of a deploy, and waiting for it: for `wait`, and for the verbs' `--wait`. Knows no click.

The race that `kubectl wait --for=condition=Promoted` has is not here: the condition of the deploy before counts for
nothing, because the status says which of the target's generations it is about.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import click

from modelcanary_cli.cluster.api import Cluster
from modelcanary_cli.cluster.changes import changes
from modelcanary_cli.cluster.errors import ClusterError
from modelcanary_cli.cluster.look import Picture, picture_of, read_canary
from modelcanary_cli.errors import ExitCode
from modelcanary_gate.plan.phases import RUNNING, Phase
from modelcanary_gate.vocabulary import Reason, Verdict

_REFRESH = 10.0


@dataclass(frozen=True, slots=True)
class Outcome:
    code: ExitCode
    message: str


Judge = Callable[[Picture], Outcome | None]


def of_deploy(picture: Picture, generation: int, wanted: str) -> Outcome | None:
    """Of the template that the target has at `generation` or later; None: not yet.

    `wanted`: promoted, rolledback (that is: until it cannot be any more), or verdict.
    """
    status = picture.status
    if picture.observed < picture.generation or picture.target_observed < generation:
        return None
    told = {condition.type: condition for condition in picture.conditions}
    promoted, rolled_back = told.get("Promoted"), told.get("RolledBack")
    observed = status.phase is Phase.OBSERVING and wanted == "rolledback"
    if promoted is not None and promoted.status == "True" and not observed:
        return Outcome(ExitCode.PROMOTE, f"promoted: {status.message or promoted.message}")
    if rolled_back is not None and rolled_back.status == "True":
        return Outcome(ExitCode.ROLL_BACK, f"rolled back ({rolled_back.reason}): {rolled_back.message}")
    if wanted == "verdict" and status.run is not None and status.verdict == Verdict.PROMOTE:
        return Outcome(ExitCode.PROMOTE, f"the verdict is to promote ({status.reason}): {status.message}")
    if wanted == "verdict" and status.run is not None and status.verdict == Verdict.ROLL_BACK:
        return Outcome(ExitCode.ROLL_BACK, f"the verdict is to roll back ({status.reason}): {status.message}")
    if status.phase in RUNNING and status.reason == Reason.HELD:
        return Outcome(ExitCode.UNDECIDED, f"held: {status.message}")
    return None


def of_run(picture: Picture, run: str) -> Outcome | None:
    """How the run has ended; None while it is on, or being carried out."""
    status = picture.status
    if status.run is not None and status.run.id == run and status.run.observing_since is None:
        return None
    if status.last is None or status.last.run != run:
        return Outcome(ExitCode.UNDECIDED, f"run {run} is not on any more; {status.phase}: {status.message}")
    how = status.last.decision.rpartition("/")[2]
    if how == Verdict.PROMOTE:
        return Outcome(ExitCode.PROMOTE, f"run {run} was promoted ({status.last.reason})")
    if how == Verdict.ROLL_BACK:
        return Outcome(ExitCode.ROLL_BACK, f"run {run} was rolled back ({status.last.reason})")
    return Outcome(ExitCode.UNDECIDED, f"run {run} ended without a verdict ({status.last.reason})")


def wait_for(cluster: Cluster, namespace: str, name: str, judge: Judge, seconds: float) -> Outcome:
    """Looks until `judge` has an answer; undecided when the time is over. Each change of phase is told on stderr.

    Raises RefusedError where the ModelCanary goes away.
    """
    deadline, said, trouble = time.monotonic() + seconds, "", ""
    with changes(cluster, namespace, name) as news:
        while True:
            try:
                picture = picture_of(read_canary(cluster, namespace, name))
            except ClusterError as error:
                if trouble != str(error):
                    click.echo(f"modelcanary: {error}; trying again", err=True)
                trouble = str(error)
            else:
                trouble = ""
                found = judge(picture)
                if found is not None:
                    return found
                line = f"{picture.status.phase} ({picture.status.reason})"
                if line != said:
                    click.echo(f"{name}: {line}: {picture.status.message}", err=True)
                said = line
            left = deadline - time.monotonic()
            if left <= 0:
                last = trouble or f"it is {said}"
                return Outcome(ExitCode.UNDECIDED, f"not within {seconds:g} s: {last}")
            news.wait(min(_REFRESH, left))
