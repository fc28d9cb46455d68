"""`labels follow` of folders, mounted and in an S3 server: what is new and what has grown counts once."""

import gzip
import json
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.cli.follow.world import Canary, World, files, until
from tests.cli.object_store import object_store

from modelcanary_cli.follow.roots import end_of

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def lake(world: World) -> Path:
    """A mounted folder, listed as `lake`."""
    folder = world.folder / "lake"
    folder.mkdir()
    world.endpoints["lake"] = {"type": "files", "url": f"file://{folder}"}
    return folder


def line(identifier: str, value: object = "cat", **more: object) -> str:
    return json.dumps({"id": identifier, "label": value, **more}) + "\n"


def truth(identifier: str, data: str) -> str:
    event = {"eventMetadata": {"eventId": identifier}, "eventVersion": "0"}
    return json.dumps({"groundTruthData": {"data": data, "encoding": "CSV"}, **event}) + "\n"


def idle(canary: Canary) -> None:
    until(canary.report, lambda report: report.get("lag") == 0 and not report["problem"])


def test_each_format_and_twice(world: World, lake: Path) -> None:
    """Delivered twice, out of order, before their pair, after the window."""
    canary = world.canary("formats", files("team/labels"), max_delay="10m")
    canary.ask(*(f"a{number}" for number in range(1, 9)))
    canary.ask("old", age=1200)
    folder = lake / "team" / "labels"
    with world.follower():
        idle(canary)  # of a folder that is not there yet
        (folder / "2026/11/22/10").mkdir(parents=True)
        (folder / "a.csv").write_text("id,label,team\na1,dog,x\na2,2,x\n")
        pq.write_table(pa.table({"id": ["a3", "a4"], "label": [1, 2]}), folder / "b.parquet")
        (folder / "c.ndjson").write_text(line("a5") + line("a6", 1, team="x") + line("old") + line("later"))
        now = datetime.now(UTC)
        hour = folder / f"{now:%Y/%m/%d/%H}"
        hour.mkdir(parents=True, exist_ok=True)
        (hour / "d.jsonl").write_text(truth("a7", "2"))
        (hour / "e.jsonl.gz").write_bytes(gzip.compress(truth("a8", "dog").encode()))
        (hour / "_SUCCESS").touch()
        canary.gets({"joined": 8, "expired": 1, "unmatched": 1})
        (folder / "again.csv").write_text("id,label\na2,2\na1,dog\nlater,cat\n")
        canary.gets({"joined": 8, "expired": 1, "unmatched": 1, "duplicate": 3})
        canary.ask("later")
        until(canary.judged, lambda judged: judged == 9)
    assert {name: value for name, value in canary.labels().items() if name != "old"} == {
        **{"a1": 1, "a2": 2, "a3": 1, "a4": 2, "a5": 0, "a6": 1, "a7": 2, "a8": 1, "later": 0}
    }
    assert canary.senders() == ["files:lake/team/labels"]


def test_lines_that_are_being_written(world: World, lake: Path) -> None:
    """A file that grows is read from where it was; half a line waits; after a restart nothing is read again."""
    canary = world.canary("grows", files("."))
    canary.ask(*(f"g{number}" for number in range(6)))
    state = world.folder / "state"
    state.mkdir()
    path = lake / "a.jsonl"
    with path.open("a") as file, world.follower("one", "--state", str(state)) as follower:

        def write(text: str) -> None:
            file.write(text)
            file.flush()

        write(line("g0") + line("g1"))
        canary.gets({"joined": 2})
        write(line("g2") + line("g3")[:10])
        canary.gets({"joined": 3})
        write(line("g3")[10:])
        until(canary.labels, lambda labels: "g3" in labels)
        follower.kill()
    before = canary.counts()
    assert before["joined"] == 4
    with path.open("a") as file:
        file.write(line("g4").rstrip())  # whoever wrote it has ended without a line's end
    with world.follower("two", "--state", str(state)):
        canary.gets({**before, "joined": 5})
        idle(canary)
        path.write_text(line("g5", "owl"))  # another file in its place
        canary.gets({**before, "joined": 6})
        idle(canary)
    assert canary.labels() == {**dict.fromkeys((f"g{number}" for number in range(5)), 0), "g5": 2}


def test_what_is_no_label_stops_nothing(world: World, lake: Path) -> None:
    canary = world.canary("bad", files("."))
    canary.ask("b1", "b2", "b3")
    (lake / "a.jsonl").write_text(line("b1") + "no json\n" + line("x", "secret-emu") + line("b2"))
    (lake / "b.csv").write_text("id\nx\n")
    (lake / "c.csv").write_text("id,label\nx,secret-emu\nb3,cat\n")
    with world.follower() as follower:
        canary.gets({"joined": 3})
        until(canary.report, lambda report: report.get("poisoned") == 4)
        idle(canary)
    log = follower.log.read_text()
    assert f"a.jsonl at byte {len(line('b1'))} is no label: cannot be read" in log
    assert "secret-emu" not in log


def test_objects_in_a_store(world: World) -> None:
    """The marks stand in for what is not read again; the admin's file says how the store is reached."""
    canary = world.canary("store", files("truth"))
    canary.ask("s1", "s2", "s3", "s4")
    now = datetime.now(UTC)
    stale = now - timedelta(days=3)
    objects = {
        f"team/truth/{now:%Y/%m/%d/%H}/a.jsonl": truth("s1", "1").encode(),
        f"team/truth/{stale:%Y/%m/%d/%H}/b.jsonl": truth("s4", "1").encode(),  # its time is over: it is not looked at
        "team/truth/c.csv": b"id,label\ns2,cat\n",
        "other/d.csv": b"id,label\ns4,cat\n",
    }
    with object_store("labels", objects) as environment:
        url = environment["AWS_ENDPOINT_URL"]
        secrets = world.folder / "store.properties"
        secrets.write_text(f"access_key=tests\nsecret_key=tests\nregion=us-east-1\nendpoint_override={url}\n")
        world.endpoints["lake"] = {"type": "files", "url": "s3://labels/team", "propertiesFile": str(secrets)}
        with world.follower(AWS_EC2_METADATA_DISABLED="true"):
            canary.gets({"joined": 2})
            idle(canary)
            httpx.put(f"{url}/labels/team/truth/e.csv", content=b"id,label\ns1,dog\ns3,owl\n").raise_for_status()
            canary.gets({"joined": 3, "duplicate": 1})
            idle(canary)
    assert canary.labels() == {"s1": 1, "s2": 0, "s3": 2}


def test_a_store_that_cannot_be_read(world: World, lake: Path) -> None:
    canary = world.canary("closed", files("labels"))
    file = world.folder / "store.properties"
    world.endpoints["lake"] = {"type": "files", "url": "s3://labels", "propertiesFile": str(file)}
    with world.follower():
        assert "store.properties: cannot be read" in canary.problem("mount the Secret")
        file.write_text("secret_kay=sesame\n")
        problem = canary.problem("line 1")
        assert "'secret_kay' is not known; known here: access_key" in problem
        file.write_text("endpoint_override=http://127.0.0.1:1\naccess_key=a\nsecret_key=sesame\nregion=us-east-1\n")
        assert "sesame" not in canary.problem("see that it is there")


def test_one_of_two_reads_a_folder(world: World, lake: Path) -> None:
    canary = world.canary("pair", files("."))
    names = [f"p{number}" for number in range(20)]
    canary.ask(*names)
    with world.follower("first") as first:
        idle(canary)
        with world.follower("second") as second:
            (lake / "a.jsonl").write_text("".join(map(line, names)))
            canary.gets({"joined": 20})
            first.kill()
            until(lambda: "it is read" in second.log.read_text())
            (lake / "b.jsonl").write_text(line("p0", "cat"))
            until(canary.counts, lambda counts: counts["duplicate"] == 21)  # it has no marks of the first's
    assert canary.counts()["joined"] == 20


@pytest.mark.parametrize(
    ("parts", "end"),
    [
        (("2026",), datetime(2027, 1, 2, tzinfo=UTC)),
        (("2026", "02"), datetime(2026, 3, 1, tzinfo=UTC)),
        (("2026", "11", "22"), datetime(2026, 11, 23, tzinfo=UTC)),
        (("2026", "11", "22", "10"), datetime(2026, 11, 22, 11, tzinfo=UTC)),
        (("2026", "11", "22", "10", "b"), datetime(2026, 11, 22, 11, tzinfo=UTC)),
        (("labels",), None),
        (("2026", "x"), None),
        (("2026", "13"), None),
        (("26",), None),
    ],
)
def test_when_a_folders_time_is_over(parts: tuple[str, ...], end: datetime | None) -> None:
    assert end_of(parts) == (None if end is None else end.timestamp())


def test_a_file_that_is_too_old(world: World, lake: Path) -> None:
    """What changed before anybody could still be waiting for it is left alone."""
    canary = world.canary("short", files("."), max_delay="10m")
    canary.ask("n1", "n2")
    old, new = lake / "old.csv", lake / "new.csv"
    old.write_text("id,label\nn1,cat\n")
    moment = time.time() - 2 * 3600
    os.utime(old, (moment, moment))
    new.write_text("id,label\nn2,cat\n")
    with world.follower():
        canary.gets({"joined": 1})
        idle(canary)
    assert canary.labels() == {"n2": 0}
