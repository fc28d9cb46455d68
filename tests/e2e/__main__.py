"""The command line of the end-to-end tests: `python -m tests.e2e [SCENARIO ...]`; `make e2e` runs all of them.

It brings a cluster up, builds and loads the images, installs the chart, runs the scenarios, and takes all of it down.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from tests.cluster.errors import ClusterError
from tests.cluster.places import Places
from tests.cluster.target import Own, Target, choose
from tests.e2e import setup
from tests.e2e.chaos import killing
from tests.e2e.errors import E2EError
from tests.e2e.history import Observer
from tests.e2e.kube import Cluster
from tests.e2e.release import install, release, storage
from tests.e2e.runner import Result, Runner
from tests.e2e.scenario import Group, Scenario, all_scenarios
from tests.e2e.summary import speeds, table

#: Says to a process that it is in the cluster's network already.
_INSIDE = "MODELCANARY_E2E_INSIDE"
_BEGAN = time.monotonic()


def say(text: str) -> None:
    print(f"{time.monotonic() - _BEGAN:6.0f} s  {text}", flush=True)


def main() -> int:
    arguments = _parser().parse_args()
    scenarios = all_scenarios()
    if arguments.list:
        print("\n".join(f"{each.name:24} {each.group}" for each in scenarios))
        return 0
    chosen = [each for each in scenarios if not arguments.scenarios or each.name in arguments.scenarios]
    unknown = set(arguments.scenarios) - {each.name for each in chosen}
    if unknown:
        print(f"error: no scenario is called {', '.join(sorted(unknown))}; --list shows them", file=sys.stderr)
        return 2
    target = choose(Places.of_environment())
    try:
        if os.environ.get(_INSIDE) or arguments.installed:
            return _inside(arguments, target, chosen)
        return _whole(arguments, target)
    except (ClusterError, E2EError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _whole(arguments: argparse.Namespace, target: Target) -> int:
    """With a cluster around it, which is taken down whatever happens."""
    say("the images")
    images = setup.build()
    say("the cluster")
    setup.helm()
    target.up()
    try:
        for archive in images.archives:
            target.load(archive)
        say("the scenarios")
        command = [sys.executable, "-m", "tests.e2e", *sys.argv[1:]]
        return setup.run(target.command(command), {**target.environment(), _INSIDE: "1"})
    finally:
        if not arguments.keep_up:
            target.down()


def _inside(arguments: argparse.Namespace, target: Target, chosen: Sequence[Scenario]) -> int:
    """In the cluster's network, where there is one of its own."""
    if isinstance(target, Own) and not os.environ.get(_INSIDE):
        command = target.command([sys.executable, "-m", "tests.e2e", *sys.argv[1:]])
        return setup.run(command, {**target.environment(), _INSIDE: "1"})
    results = asyncio.run(_run(arguments, target, chosen))
    print(f"\n{table(results)}\n\n{speeds(results)}", flush=True)
    failed = [each for each in results if each.error]
    if failed:
        print(f"\nwhat is known of those that failed: {arguments.out}", flush=True)
    return 1 if failed or not results else 0


async def _run(arguments: argparse.Namespace, target: Target, chosen: Sequence[Scenario]) -> list[Result]:
    images = setup.built()
    results: list[Result] = []
    async with await Cluster.connect(target.kubeconfig) as cluster, Observer(cluster).watching() as observer:
        if not arguments.installed:
            await storage(cluster, target)
            await install(target, images.chart)
            say("the chart is installed")
        found = await release(cluster, target, images.pods)
        for group in Group:
            scenarios = [each for each in chosen if each.group is group]
            if not scenarios:
                continue
            runner = Runner(cluster, observer, found, arguments.out, arguments.at_once, arguments.seed, say)
            async with AsyncExitStack() as meanwhile:
                if group is Group.KILLED:
                    await meanwhile.enter_async_context(
                        killing(cluster, found.namespace, "operator", arguments.seed, say)
                    )
                results += await runner.group(scenarios)
    return results


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.e2e", description=__doc__)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help="left out: all of them")
    parser.add_argument("--list", action="store_true", help="say which scenarios there are")
    parser.add_argument("--at-once", type=int, default=4, metavar="N", help="scenarios at the same time")
    parser.add_argument("--seed", type=int, default=1, help="of all that is random")
    parser.add_argument("--keep-up", action="store_true", help="leave the cluster up, to look at it")
    parser.add_argument("--installed", action="store_true", help="use the cluster that is up, as it is")
    usual = Path(tempfile.gettempdir()) / "modelcanary-e2e"
    parser.add_argument("--out", type=Path, default=usual, help="where what failed is written to")
    return parser


if __name__ == "__main__":
    sys.exit(main())
