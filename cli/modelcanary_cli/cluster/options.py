"""Options of every command for a cluster, as `kubectl` has them, and the connection that they make."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from modelcanary_cli.cluster.api import Cluster
from modelcanary_gate import quantities

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Where:
    """Which cluster, and which namespace of it; None: as the context says."""

    namespace: str | None
    context: str | None
    kubeconfig: Path | None

    @contextmanager
    def cluster(self) -> Iterator[tuple[Cluster, str]]:
        """The cluster, and the namespace that is meant."""
        with closing(Cluster(self.kubeconfig, self.context)) as cluster:
            yield cluster, self.namespace or cluster.namespace


def cluster_options(function: F) -> F:
    for option in (
        click.option("--kubeconfig", type=click.Path(path_type=Path), metavar="FILE", help="As for kubectl."),
        click.option("--context", metavar="NAME", help="Of the kubeconfig; default: the current one."),
        click.option("-n", "--namespace", metavar="NAME", help="Default: the context's."),
    ):
        function = option(function)
    return function


def timeout_option(default: str) -> Callable[[F], F]:
    """In seconds, written as in the specification: 30s, 10m, 1h30m."""
    return click.option(
        "--timeout",
        metavar="TIME",
        default=default,
        show_default=True,
        callback=lambda _, __, value: quantities.duration(value, "--timeout"),
        help="How long to wait.",
    )


def wait_option(function: F) -> F:
    return click.option("--wait", is_flag=True, help="Until it is carried out.")(function)
