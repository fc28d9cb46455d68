"""`python -m bench.gates`: simulate, print the tables, draw the plot, and write them to bench/RESULTS.md.

`--scale 0.1` takes a tenth of the runs, `--report` only reads what the last whole run left in the cache.
"""

import argparse
import pickle
import time
from dataclasses import replace
from multiprocessing import Pool
from pathlib import Path

import numpy as np
from bench.gates import classes, matched, plot, report, rules
from bench.gates.pools import Array, cache_folder
from bench.gates.scenarios import Part, Scenario, plan, simulate
from bench.sections import keep

Results = tuple[list[tuple[Scenario, Part]], list[classes.Found], dict[tuple[str, str], float], float]

HERE = Path(__file__).parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.gates", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="number of runs, 1 is the whole")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--missing", action="store_true", help="simulate only what the last run did not")
    parser.add_argument("--report", action="store_true", help="only report what the last run left")
    options = parser.parse_args()
    kept = cache_folder() / "results.pickle"
    old: Results = ([], [], {}, 0.0)
    if options.report or options.missing:
        old = pickle.loads(kept.read_bytes())
    results = old
    if not options.report:
        results = _simulated(options.scale, options.jobs, old)
        kept.write_bytes(pickle.dumps(results))
    text = report.markdown(*results)
    print(text)
    plot.draw(HERE / "results" / "gates.png")
    if options.report or options.missing or options.scale >= 1:
        keep("gates", text)


def _simulated(scale: float, jobs: int, old: Results) -> Results:
    began = time.monotonic()
    had, had_classes, had_z, before = old
    done = {_setting(scenario) for scenario, _ in had}
    scenarios = [scenario for scenario in plan(scale) if _setting(scenario) not in done]
    parts = [(index, part) for index, scenario in enumerate(scenarios) for part in range(scenario.parts)]
    by_scenario: dict[int, list[Part]] = {index: [] for index in range(len(scenarios))}
    with Pool(jobs) as pool:
        work = ((scenarios[index], part) for index, part in parts)
        for count, ((index, _), part) in enumerate(zip(parts, pool.imap(_one, work), strict=True)):
            by_scenario[index].append(part)
            if count % 50 == 49:
                print(f"{count + 1} of {len(parts)} parts, {time.monotonic() - began:.0f} s", flush=True)
        of_classes = had_classes or classes.joined(pool.map(classes.simulate, classes.plan(scale), chunksize=1))
        z = had_z or matched.thresholds(pool.map(matched.highest, matched.plan(scale), chunksize=1))
    found = [(scenarios[index], _joined(several)) for index, several in by_scenario.items()]
    return [*had, *found], of_classes, z, before + time.monotonic() - began


def _setting(scenario: Scenario) -> str:
    """All that makes a scenario but its number of runs."""
    return repr((replace(scenario, runs=0, rivals=0), scenario.spec))


def _one(work: tuple[Scenario, int]) -> Part:
    return simulate(*work)


def _joined(parts: list[Part]) -> Part:
    def ruled(name: str) -> rules.Ruled:
        several = [part.rivals[name] for part in parts if name in part.rivals]
        columns = (np.concatenate([getattr(one, key) for one in several]) for key in ("rollback", "promote", "flips"))
        return rules.Ruled(*columns)

    def column(key: str) -> Array:
        return np.concatenate([getattr(part, key) for part in parts])

    return Part(
        column("rollback"),
        column("promote"),
        column("flips"),
        column("highest"),
        column("reached"),
        {name: ruled(name) for name in parts[0].rivals},
        {key: np.concatenate([part.z[key] for part in parts if key in part.z]) for key in parts[0].z},
    )


if __name__ == "__main__":
    main()
