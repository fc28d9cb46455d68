"""`modelcanary status`: one ModelCanary with all that runs under it, or a table of all."""

import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import click
import yaml
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from modelcanary_cli import text
from modelcanary_cli.cluster.api import Cluster
from modelcanary_cli.cluster.changes import changes
from modelcanary_cli.cluster.drawing import draw, printable, table_of
from modelcanary_cli.cluster.errors import ClusterError
from modelcanary_cli.cluster.following import what_follows
from modelcanary_cli.cluster.look import Picture, look, picture_of
from modelcanary_cli.cluster.options import Where, cluster_options
from modelcanary_cli.errors import InputError
from modelcanary_operator.api import CANARIES

#: What no watch tells of (pods, ages) is looked at this often.
_REFRESH = 5.0


@click.command(short_help="What runs in a cluster, on what evidence, what is next.")
@click.argument("name", required=False)
@click.option("-A", "--all-namespaces", is_flag=True, help="All ModelCanaries of the cluster.")
@click.option("-w", "--watch", is_flag=True, help="Go on showing it, until Ctrl-C.")
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="For machines.")
@cluster_options
def status(
    name: str | None,
    all_namespaces: bool,
    watch: bool,
    output: str | None,
    namespace: str | None,
    context: str | None,
    kubeconfig: Any,
) -> None:
    """Show a ModelCanary: its phase and what happens next, its evidence, guards and conditions, and what runs
    for it. Without NAME, a table of all in the namespace.
    """
    if name is not None and all_namespaces:
        raise InputError("-A", "goes without a NAME", "leave one of the two out")
    if watch and output is not None:
        raise InputError("--output", "goes without --watch", "leave one of the two out")
    with Where(namespace, context, kubeconfig).cluster() as (cluster, chosen):
        where = "" if all_namespaces else chosen
        if watch:
            _watch(cluster, where, name)
        elif output is not None:
            _write(output, _data(cluster, where, name))
        else:
            text.console().print(_drawn(cluster, where, name))


def _drawn(cluster: Cluster, namespace: str, name: str | None) -> RenderableType:
    now = time.time()
    if name is not None:
        return draw(look(cluster, namespace, name), now)
    return table_of(_all(cluster, namespace), now, namespaces=not namespace)


def _all(cluster: Cluster, namespace: str) -> list[Picture]:
    found = [picture_of(item) for item in cluster.list(CANARIES, namespace)]
    return sorted(found, key=lambda picture: (picture.namespace, picture.name))


def _data(cluster: Cluster, namespace: str, name: str | None) -> Any:
    now = time.time()
    if name is not None:
        return _plain(look(cluster, namespace, name), now)
    return [_plain(picture, now) for picture in _all(cluster, namespace)]


def _plain(picture: Picture, now: float) -> dict[str, Any]:
    """The specification is left out: `kubectl get -o yaml` has it."""
    return {
        "namespace": picture.namespace,
        "name": picture.name,
        "next": what_follows(picture, now),
        "status": picture.written,
        "workloads": [asdict(workload) for workload in picture.workloads],
        "events": [asdict(event) for event in picture.events],
        "unseen": picture.unseen,
    }


def _write(output: str, found: Any) -> None:
    if output == "json":
        click.echo(json.dumps(found, indent=2))
    else:
        click.echo(yaml.safe_dump(found, sort_keys=False, allow_unicode=True, width=math.inf), nl=False)


def _watch(cluster: Cluster, namespace: str, name: str | None) -> None:
    """Until Ctrl-C. The first look must succeed; later ones may fail, and that is shown."""
    shown = _drawn(cluster, namespace, name)
    try:
        if sys.stdout.isatty():
            _redraw(cluster, namespace, name, text.console(), shown)
        else:
            _lines(cluster, namespace, name)
    except KeyboardInterrupt:
        return


def _redraw(cluster: Cluster, namespace: str, name: str | None, console: Console, shown: RenderableType) -> None:
    seen, current = time.time(), shown
    try:
        with (
            Live(shown, console=console, screen=True, auto_refresh=False) as live,
            changes(cluster, namespace, name or "") as news,
        ):
            while True:
                live.update(current, refresh=True)
                news.wait(_REFRESH)
                try:
                    shown = current = _drawn(cluster, namespace, name)
                    seen = time.time()
                except ClusterError as error:
                    trouble = Text(printable(f"{error}; this is {time.time() - seen:.0f} s old"), "bold red")
                    current = Group(trouble, "", shown)
    finally:
        console.print(shown)  # the other screen is gone, this stays


def _lines(cluster: Cluster, namespace: str, name: str | None) -> None:
    """Where there is no terminal: a line whenever there is something new."""
    before: dict[tuple[str, str], str] = {}

    def tell(found: list[Picture]) -> None:
        for picture in found:
            key, line = (picture.namespace, picture.name), _line(picture)
            if before.get(key) != line:
                before[key] = line
                click.echo(f"{time.strftime('%H:%M:%S', time.gmtime())} {line}")
                sys.stdout.flush()

    read: Callable[[], list[Picture]] = (
        (lambda: [look(cluster, namespace, name)]) if name is not None else (lambda: _all(cluster, namespace))
    )
    with changes(cluster, namespace, name or "") as news:
        while True:
            try:
                tell(read())
            except ClusterError as error:
                click.echo(f"modelcanary: {error}", err=True)
            news.wait(_REFRESH)


def _line(picture: Picture) -> str:
    found, status = picture.evidence, picture.status
    evidence = f", {found['labelled']:,} labelled, delta {found['delta']}" if "delta" in found else ""
    words = f": {status.message}" if status.message else ""
    return printable(f"{picture.name} {status.phase} ({status.reason}){evidence}{words}")
