"""The command line of the test cluster: `python -m tests.cluster build|up|load|exec|down`."""

import argparse
import os
import sys
import time
from pathlib import Path

from tests.cluster.build import API_SERVER, build
from tests.cluster.errors import ClusterError
from tests.cluster.node import Node
from tests.cluster.places import Places
from tests.cluster.target import Own, choose


def main() -> int:
    arguments = _parser().parse_args()
    try:
        return _do(arguments)
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _do(arguments: argparse.Namespace) -> int:
    places = Places.of_environment()
    if arguments.what == "build":
        print(build(places, API_SERVER) if arguments.api_only else Node(places).build())
        return 0
    target = choose(places)
    if arguments.what == "up":
        started = time.monotonic()
        target.up()
        print(f"ready after {time.monotonic() - started:.0f} s; KUBECONFIG={target.kubeconfig}")
        if isinstance(target, Own):
            print("the cluster has a network of its own: python -m tests.cluster exec kubectl get nodes")
    elif arguments.what == "load":
        for archive in arguments.archives:
            target.load(archive)
    elif arguments.what == "exec":
        command = target.command(arguments.command)
        os.execvpe(command[0], command, dict(target.environment()))
    else:
        target.down()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    commands = parser.add_subparsers(dest="what", required=True)
    built = commands.add_parser("build", help="compile the node's programs into the cache, once")
    built.add_argument("--api-only", action="store_true", help="only what tests of the API need")
    commands.add_parser("up", help="start a cluster, or use the one of MODELCANARY_KUBECONFIG")
    load = commands.add_parser("load", help="make images known to the cluster")
    load.add_argument("archives", nargs="+", type=Path, metavar="DOCKER_ARCHIVE")
    run = commands.add_parser("exec", help="run a command inside of the cluster's network")
    run.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND")
    commands.add_parser("down", help="end what up started")
    return parser


if __name__ == "__main__":
    sys.exit(main())
