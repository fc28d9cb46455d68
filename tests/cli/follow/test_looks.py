"""A follower of one folder, look by look: the files are real, the ledger is a fake that takes all."""

import json
import threading
import tracemalloc
from collections import Counter
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from modelcanary_cli.feedback import Taken
from modelcanary_cli.follow import following
from modelcanary_cli.follow.delivery import Tally
from modelcanary_cli.follow.folders import FolderFollower
from modelcanary_cli.follow.following import in_turn
from modelcanary_gate.protocol import Followed, LabelSource
from modelcanary_gate.vocabulary import SourceKind
from modelcanary_operator.label_places import LabelPlace


def source(namespace: str, place: str) -> Followed:
    return Followed(namespace, "fraud", LabelSource(SourceKind.FILES, "lake", place), 3600.0)


class Ledger:
    def __init__(self) -> None:
        self.ids: list[str] = []
        self.taken = 0
        self.keeps = True

    def send(self, body: bytes) -> Taken:
        rows = json.loads(body) if self.keeps else []
        self.ids += [row["id"] for row in rows]
        self.taken += 1
        return Taken(Counter(joined=len(rows)))


class Looks:
    def __init__(self, folder: Path) -> None:
        self.ledger = Ledger()
        self.tally = Tally("lake")
        place = LabelPlace(SourceKind.FILES, url=f"file://{folder}")
        followed = source("shop", ".")
        self._follower = FolderFollower(followed, place, self.ledger, self.tally, threading.Event(), None, 30.0)

    def look(self, times: int = 1) -> list[str]:
        """The ids that are new since the look before."""
        before = len(self.ledger.ids)
        for _ in range(times):
            self._follower._look()
        return self.ledger.ids[before:]


def line(identifier: str) -> str:
    return json.dumps({"id": identifier, "label": "cat"}) + "\n"


@pytest.mark.parametrize("at", [1, 10, len(line("b")) - 2])
def test_half_a_line_waits_however_long_its_writer_rests(tmp_path: Path, at: int) -> None:
    looks = Looks(tmp_path)
    path = tmp_path / "a.jsonl"
    path.write_text(line("a") + line("b")[:at])
    assert looks.look(5) == ["a"]
    assert (looks.tally.lag, looks.tally.poisoned) == (0, 0)
    with path.open("a") as file:
        file.write(line("b")[at:] + line("c")[:at])
    assert looks.look(5) == ["b"]
    with path.open("a") as file:
        file.write(line("c")[at:])
    assert looks.look() == ["c"]
    assert looks.tally.poisoned == 0


def test_a_whole_last_line_without_an_end_is_read_once_the_file_rests(tmp_path: Path) -> None:
    looks = Looks(tmp_path)
    path = tmp_path / "a.jsonl"
    path.write_text(line("a") + line("b").rstrip())
    assert looks.look() == ["a"]
    assert looks.look() == ["b"]
    with path.open("a") as file:
        file.write("\n" + "no json\n" + line("c"))
    assert looks.look(3) == ["c"]
    assert looks.tally.poisoned == 1


def test_a_large_file_is_not_held_as_objects(tmp_path: Path) -> None:
    """A hundred thousand records would take 40 MB."""
    count = 100_000
    pq.write_table(
        pa.table({"id": [f"i{row}" for row in range(count)], "label": np.ones(count, int)}), tmp_path / "a.parquet"
    )
    looks = Looks(tmp_path)
    looks.ledger.keeps = False
    looks.look()
    tracemalloc.start()
    try:
        looks.look()
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert looks.ledger.taken == 5
    assert most < 25e6


def test_namespaces_take_turns_for_the_sources_that_are_followed() -> None:
    many = [source("loud", f"p{number}") for number in range(300)]
    few = [source("quiet", "p0"), source("quiet", "p1"), source("shy", "p0")]
    turns = in_turn([*many, *few])
    assert turns[:6] == [many[0], few[0], few[2], many[1], few[1], many[2]]
    assert sorted(turns, key=repr) == sorted([*many, *few], key=repr)


def test_beyond_a_number_sources_are_said_to_be_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "MOST_SOURCES", 3)
    endpoints = tmp_path / "endpoints.yaml"
    endpoints.write_text(yaml.safe_dump({"lake": {"type": "files", "url": f"file://{tmp_path}"}}))
    many, one = [source("loud", f"p{number}") for number in range(4)], source("quiet", "p0")
    with httpx.Client(base_url="http://127.0.0.1:1") as client:
        follower = following.Follower(client, following.Options(endpoints, None, 30.0, "one"))
        wanted = [known.followed for known, _ in follower._wanted([*many, one])]
        assert wanted == [many[0], many[1], one]
        problems = {followed: tally.problem for followed, tally in follower.tallies()}
    assert problems[many[2]] == "5 sources are listed, and 3 of all namespaces are followed at most"
    assert "at most" not in problems[one]
