"""`modelcanary wait`: what a pipeline calls after it has changed the target. Its exit code is the verdict."""

from pathlib import Path

import click

from modelcanary_cli import text
from modelcanary_cli.cluster.api import Cluster
from modelcanary_cli.cluster.errors import ForbiddenError, NotFoundError, RefusedError
from modelcanary_cli.cluster.look import picture_of, read_canary
from modelcanary_cli.cluster.options import Where, cluster_options, timeout_option
from modelcanary_cli.cluster.outcomes import of_deploy, wait_for
from modelcanary_operator.api import DEPLOYMENTS


@click.command(short_help="Wait for what becomes of a deploy.")
@click.argument("name")
@click.option(
    "--for",
    "wanted",
    type=click.Choice(["promoted", "rolledback", "verdict"]),
    default="promoted",
    show_default=True,
    help="promoted: until it serves all users. rolledback: until it is, or cannot be any more. verdict: until the "
    "gate has said. Each ends with what has become of it.",
)
@timeout_option("1h")
@cluster_options
def wait(
    name: str, wanted: str, timeout: float, namespace: str | None, context: str | None, kubeconfig: Path | None
) -> int:
    """Wait until what the target has now is promoted or rolled back.

    It is the target as it is when the command starts, so that a condition of the deploy before is not taken for an
    answer. Exit codes: 0 promoted, 1 rolled back, 2 held, or not within --timeout.
    """
    with Where(namespace, context, kubeconfig).cluster() as (cluster, chosen):
        generation = _target_generation(cluster, chosen, name)
        outcome = wait_for(
            cluster,
            chosen,
            name,
            lambda picture: of_deploy(picture, generation, wanted),
            timeout,
        )
    click.echo(text.wrapped(f"{name}: {outcome.message}"))
    return outcome.code


def _target_generation(cluster: Cluster, namespace: str, name: str) -> int:
    picture = picture_of(read_canary(cluster, namespace, name))
    target = picture.spec.target if picture.spec is not None else None
    if target is None:
        raise RefusedError(f"the specification of {name} cannot be read, so it has no target; `status {name}` says why")
    try:
        found = cluster.get(DEPLOYMENTS, namespace, target.name)
    except NotFoundError as error:
        raise NotFoundError(f"the target of {name}, Deployment {target.name}, is not there; create it") from error
    except ForbiddenError as error:
        raise ForbiddenError(f"{error}; waiting needs `get` on the target, to know which deploy is meant") from error
    return int(found["metadata"].get("generation") or 0)
