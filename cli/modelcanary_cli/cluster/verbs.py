"""`promote`, `rollback`, `pause`, `resume`, `retry`: annotations of the ModelCanary that name the run they are for.

So Git never reverts one, and one that comes late concerns nobody. Each is checked before it is written; the operator
carries it out. They need `get` and `patch` of modelcanaries, and nothing else.
"""

from collections.abc import Callable
from pathlib import Path

import click

from modelcanary_cli import text
from modelcanary_cli.cluster.api import Cluster
from modelcanary_cli.cluster.errors import RefusedError
from modelcanary_cli.cluster.look import Picture, picture_of, read_canary
from modelcanary_cli.cluster.options import Where, cluster_options, timeout_option, wait_option
from modelcanary_cli.cluster.outcomes import Judge, Outcome, of_run, wait_for
from modelcanary_cli.errors import ExitCode
from modelcanary_gate.plan.phases import RUNNING, Phase
from modelcanary_gate.plan.status import Run
from modelcanary_operator import names
from modelcanary_operator.api import CANARIES


@click.command(short_help="Promote the candidate of the run that is on.")
@click.argument("name")
@wait_option
@timeout_option("10m")
@cluster_options
def promote(
    name: str, wait: bool, timeout: float, namespace: str | None, context: str | None, kubeconfig: Path | None
) -> int:
    """Promote the candidate now, whatever the gate says: it skips canary steps and approvals too.

    Exit code with --wait: 0 when the template serves, 1 when it was rolled back instead, 2 when neither in time.
    """

    def check(picture: Picture) -> tuple[str, str]:
        run = _on(picture, "promote", RUNNING)
        when = "as soon as its candidate is ready" if picture.status.phase is Phase.PREPARING else "now"
        return run.id, f"template {run.candidate} is promoted {when}; the gate's verdict is {_verdict(picture)}"

    def end(outcome: Outcome) -> ExitCode:
        return outcome.code

    with Where(namespace, context, kubeconfig).cluster() as (cluster, chosen):
        run = _say(cluster, chosen, name, "promote", check, drops=("rollback",))
        return _end(cluster, chosen, name, _ended("promote", run), end, timeout if wait else None)


@click.command(short_help="Roll back the candidate of the run that is on.")
@click.argument("name")
@wait_option
@timeout_option("10m")
@cluster_options
def rollback(
    name: str, wait: bool, timeout: float, namespace: str | None, context: str | None, kubeconfig: Path | None
) -> int:
    """Take the candidate away now. While a promotion is observed, bring the template before it back.

    Exit code with --wait: 0 when that is done, 2 when it ended otherwise, or not in time.
    """

    def check(picture: Picture) -> tuple[str, str]:
        run = _on(picture, "roll back", RUNNING | {Phase.OBSERVING})
        if run.observing_since is not None:
            return run.id, f"the baseline takes template {run.baseline} back"
        return run.id, f"the candidate of template {run.candidate} goes; the baseline serves"

    def end(outcome: Outcome) -> ExitCode:
        return ExitCode.PROMOTE if outcome.code is ExitCode.ROLL_BACK else ExitCode.UNDECIDED

    with Where(namespace, context, kubeconfig).cluster() as (cluster, chosen):
        run = _say(cluster, chosen, name, "rollback", check, drops=("promote",))

        def judge(picture: Picture) -> Outcome | None:
            # The promotion that is taken back is how the run ended before.
            on = picture.status.run
            return None if on is not None and on.id == run else _ended("rollback", run)(picture)

        return _end(cluster, chosen, name, judge, end, timeout if wait else None)


@click.command(short_help="Hold a promotion of the run that is on.")
@click.argument("name")
@cluster_options
def pause(name: str, namespace: str | None, context: str | None, kubeconfig: Path | None) -> None:
    """Hold the run: it goes on measuring, and a verdict to promote waits for `resume`. Roll-backs do not wait."""

    def check(picture: Picture) -> tuple[str, str]:
        run = _on(picture, "pause", RUNNING)
        if picture.verbs.get("pause") == run.id and picture.verbs.get("resume") != run.id:
            raise RefusedError(f"run {run.id} is paused already; `modelcanary resume {name}` ends that")
        return run.id, f"it measures on; a verdict to promote waits for `modelcanary resume {name}`"

    with Where(namespace, context, kubeconfig).cluster() as (cluster, chosen):
        _say(cluster, chosen, name, "pause", check, drops=("resume",))


@click.command(short_help="Let a paused run go on.")
@click.argument("name")
@cluster_options
def resume(name: str, namespace: str | None, context: str | None, kubeconfig: Path | None) -> None:
    """Let a paused run go on: what the gate says is carried out again."""

    def check(picture: Picture) -> tuple[str, str]:
        run = _on(picture, "resume", RUNNING)
        if picture.verbs.get("pause") != run.id or picture.verbs.get("resume") == run.id:
            raise RefusedError(f"run {run.id} is not paused; nothing is to be done")
        return run.id, "what the gate says is carried out again"

    with Where(namespace, context, kubeconfig).cluster() as (cluster, chosen):
        _say(cluster, chosen, name, "resume", check, drops=("pause",))


@click.command(short_help="Try a rejected template again now.")
@click.argument("name")
@wait_option
@timeout_option("10m")
@cluster_options
def retry(
    name: str, wait: bool, timeout: float, namespace: str | None, context: str | None, kubeconfig: Path | None
) -> int:
    """End the cooldown: the template that was rolled back is tried again now.

    Each attempt is judged more strictly. Exit code with --wait: 0 when the run has begun, 2 when not in time.
    """

    def check(picture: Picture) -> tuple[str, str]:
        status = picture.status
        if status.phase is not Phase.COOLDOWN or status.rejected is None:
            raise RefusedError(f"there is nothing to retry: no template is in its cooldown; {_where(picture)}")
        # Not the last run: others may have been on since this template was rejected, and a status may have been lost.
        return status.rejected.run, f"template {status.rejected.template} is tried again"

    def judge(picture: Picture) -> Outcome | None:
        if picture.status.run is None:
            return None
        return Outcome(ExitCode.PROMOTE, f"run {picture.status.run.id} has begun")

    with Where(namespace, context, kubeconfig).cluster() as (cluster, chosen):
        _say(cluster, chosen, name, "retry", check)
        return _end(cluster, chosen, name, judge, lambda outcome: outcome.code, timeout if wait else None)


def _on(picture: Picture, verb: str, phases: frozenset[Phase]) -> Run:
    """The run that the verb is for. Raises RefusedError that says what there is."""
    run = picture.status.run
    if run is None or picture.status.phase not in phases:
        raise RefusedError(f"there is no run to {verb}; {_where(picture)}")
    return run


def _where(picture: Picture) -> str:
    status = picture.status
    return f"{picture.name} is {status.phase} ({status.reason}): {status.message}"


def _verdict(picture: Picture) -> str:
    status = picture.status
    return f"{status.verdict or 'not there yet'} ({status.reason})"


def _say(
    cluster: Cluster,
    namespace: str,
    name: str,
    verb: str,
    check: Callable[[Picture], tuple[str, str]],
    drops: tuple[str, ...] = (),
) -> str:
    """Writes the verb for the run that `check` names; those that say the contrary of this run are taken off."""
    run, will = check(picture_of(read_canary(cluster, namespace, name)))
    annotations = {names.VERBS[verb]: run, **{names.VERBS[other]: None for other in drops}}
    cluster.patch(CANARIES, namespace, name, {"metadata": {"annotations": annotations}})
    click.echo(text.wrapped(f"{name}: {verb} of run {run}: {will}"))
    return run


def _ended(verb: str, run: str) -> Judge:
    def judge(picture: Picture) -> Outcome | None:
        found = of_run(picture, run)
        if found is None and picture.verbs.get(verb) != run:
            raise RefusedError(f"the operator has refused it, or somebody took it off; see `status {picture.name}`")
        return found

    return judge


def _end(
    cluster: Cluster,
    namespace: str,
    name: str,
    judge: Judge,
    code: Callable[[Outcome], ExitCode],
    seconds: float | None,
) -> ExitCode:
    if seconds is None:
        return ExitCode.PROMOTE
    outcome = wait_for(cluster, namespace, name, judge, seconds)
    click.echo(text.wrapped(f"{name}: {outcome.message}"))
    return code(outcome)
