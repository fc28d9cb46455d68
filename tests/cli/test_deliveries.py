"""Labels that come twice, out of order, before their pair and after the window: over HTTP and by `labels import`.

The same of topics and folders is in `tests/cli/follow`.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.cli.follow.world import Canary, until
from tests.cli.made import Cli
from tests.cli.recorded import ledger

Rows = list[dict[str, str]]
LABELS = {"a": "dog", "b": "owl", "c": "cat", "early": "owl", "late": "dog"}


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Canary]:
    with ledger(tmp_path / "state") as url, httpx.Client(base_url=url, timeout=60) as client:
        yield Canary(client, "times", [], max_delay="10m").begin()


def array(canary: Canary, _: Cli, rows: Rows) -> dict[str, int]:
    return post(canary, json.dumps(rows))


def lines(canary: Canary, _: Cli, rows: Rows) -> dict[str, int]:
    return post(canary, "\n".join(map(json.dumps, rows)))


def one_by_one(canary: Canary, _: Cli, rows: Rows) -> dict[str, int]:
    answers = [post(canary, json.dumps(row)) for row in rows]
    return {name: sum(each.get(name, 0) for each in answers) for answer in answers for name in answer}


def post(canary: Canary, body: str) -> dict[str, int]:
    answer = canary.client.post(f"/v1/feedback?namespace=shop&name={canary.name}", content=body)
    assert answer.status_code == 202, answer.text
    return {name: count for name, count in answer.json().items() if count}


def csv(canary: Canary, cli: Cli, rows: Rows) -> dict[str, int]:
    Path("labels.csv").write_text("id,label\n" + "".join(f"{row['id']},{row['label']}\n" for row in rows))
    return imported(canary, cli, "labels.csv")


def parquet(canary: Canary, cli: Cli, rows: Rows) -> dict[str, int]:
    pq.write_table(pa.Table.from_pylist(rows), "labels.parquet")
    return imported(canary, cli, "labels.parquet")


def imported(canary: Canary, cli: Cli, file: str) -> dict[str, int]:
    place = ("--ledger", canary.client.base_url, "-n", "shop", "--name", canary.name)
    answer = cli("labels", "import", file, *place, "--json")
    assert answer.code == 0, answer.err
    return {name: count for name, count in json.loads(answer.out).items() if count and name not in ("files", "labels")}


@pytest.mark.parametrize("deliver", [array, lines, one_by_one, csv, parquet])
def test_each_counts_once(cli: Cli, canary: Canary, deliver: Callable[[Canary, Cli, Rows], dict[str, int]]) -> None:
    canary.ask("a", "b", "c")
    canary.ask("late", age=1200)
    rows = [{"id": name, "label": LABELS[name]} for name in ("c", "early", "a", "late", "b")]
    assert deliver(canary, cli, rows) == {"joined": 3, "unmatched": 1, "expired": 1}
    assert deliver(canary, cli, rows[::-1]) == {"duplicate": 5}
    assert canary.judged() == 3
    canary.ask("early")
    until(canary.judged, lambda judged: judged == 4)
    assert deliver(canary, cli, rows) == {"duplicate": 5}
    assert deliver(canary, cli, [{"id": "a", "label": "owl"}]) == {"conflict": 1}
    assert canary.judged() == 4
    kept = {name: ["cat", "dog", "owl"].index(label) for name, label in LABELS.items()}
    assert canary.labels() == kept
