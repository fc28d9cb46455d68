"""A full disk refuses new pairs, goes on answering reads, and recovers when there is room."""

import asyncio
import contextlib
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import pytest

from modelcanary_gate.protocol import FeedbackCounts, PairBatch
from modelcanary_ledger.errors import Busy, DiskFull
from modelcanary_ledger.join import Posted
from modelcanary_ledger.segment import connect_reading
from modelcanary_ledger.writer import Writer

pytestmark = pytest.mark.files

MODEL = "/v1/runs/ns/m"
MODEL_KEY = ("ns", "m")
SPEC = {"model": {"classes": ["cat", "dog", "owl"]}, "labels": {"maturity": "0s"}}


def bound(connection: sqlite3.Connection, pages: int | None) -> None:
    """Lets a file grow by so many pages more."""
    now = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count={2**31 if pages is None else now + pages}")


async def until_full(writer: Writer, world, make_pair, prefix: str) -> list[str]:
    """Records pairs until they are refused; returns those that were acknowledged."""
    done: list[str] = []
    for number in range(1000):
        ids = [f"{prefix}{number}.{i}" for i in range(50)]
        batch = world.batch([make_pair(identifier, world.now) for identifier in ids])
        try:
            assert await writer.record(world.standing, batch) == 50
        except DiskFull:
            return done
        done += ids
    raise AssertionError("the disk never filled")


def test_pairs_are_refused_and_recorded_again(world, make_pair):
    async def scenario() -> None:
        writer = Writer(world.ledger, lambda: world.now)
        writer.start()
        segment = world.ledger._store.pairs._open.segment.connection
        bound(segment, 40)
        first = await until_full(writer, world, make_pair, "a")
        assert len(first) > 100
        evidence = await writer.read(lambda ledger, now: ledger.evidence(world.standing, None, (0, 0), now))
        assert evidence.counts["pairs"] == len(first)
        labels = [Posted(identifier, 0, 1) for identifier in first[:60]]
        counts = await writer.change(lambda change: change.feedback(world.standing, labels), model=MODEL_KEY)
        assert counts.joined == 60
        # What shares the group of the refused batch is not refused with it.
        batch = world.batch([make_pair(f"b{i}", world.now) for i in range(50)])
        again, refused = await asyncio.gather(
            writer.change(lambda change: change.feedback(world.standing, labels), model=MODEL_KEY),
            writer.record(world.standing, batch),
            return_exceptions=True,
        )
        assert isinstance(refused, DiskFull)
        assert isinstance(again, FeedbackCounts)
        assert again.duplicate == 60
        bound(segment, None)
        batch = world.batch([make_pair(f"c{i}", world.now) for i in range(50)])
        assert await writer.record(world.standing, batch) == 50
        await writer.stop()
        world.restart()
        assert world.evidence().counts["pairs"] == len(first) + 50
        world.expect(dict.fromkeys(first[:60], 1))

    asyncio.run(scenario())


def test_labels_are_refused_whole_and_joined_later(world, make_pair):
    async def scenario() -> None:
        writer = Writer(world.ledger, lambda: world.now)
        writer.start()
        ids = [f"i{i}" for i in range(3000)]
        for start in range(0, 3000, 500):
            pairs = [make_pair(identifier, world.now) for identifier in ids[start : start + 500]]
            await writer.record(world.standing, world.batch(pairs))
        state = world.ledger._store.state.connection
        await writer.read(lambda ledger, now: None)
        bound(state, 2)
        labels = [Posted(identifier, 0, 1) for identifier in ids]
        with pytest.raises(DiskFull):
            await writer.change(lambda change: change.feedback(world.standing, labels), model=MODEL_KEY)
        evidence = await writer.read(lambda ledger, now: ledger.evidence(world.standing, None, (0, 0), now))
        assert evidence.counts["labelled"] == 0
        bound(state, None)
        counts = await writer.change(lambda change: change.feedback(world.standing, labels), model=MODEL_KEY)
        assert (counts.joined, counts.duplicate) == (3000, 0)
        await writer.stop()
        world.restart()
        world.expect(dict.fromkeys(ids, 1))

    asyncio.run(scenario())


def test_a_reserve_is_kept_free_of_pairs(world, make_pair):
    async def scenario() -> None:
        room = True
        writer = Writer(world.ledger, lambda: world.now, lambda: room)
        writer.start()
        await writer.record(world.standing, world.batch([make_pair("a", world.now)]))
        room = False
        with pytest.raises(DiskFull):
            await writer.record(world.standing, world.batch([make_pair("b", world.now)]))
        found = await writer.change(
            lambda change: change.feedback(world.standing, [Posted("a", 0, 1)]), model=MODEL_KEY
        )
        assert found.joined == 1
        room = True
        assert await writer.record(world.standing, world.batch([make_pair("b", world.now)])) == 1
        await writer.stop()

    asyncio.run(scenario())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    directory = tmp_path / "disk"
    directory.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(directory)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a file system can be mounted by root only")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)


def test_a_real_full_disk(small_disk, make_pair):
    filler = small_disk / "other"
    filler.write_bytes(b"x" * (2 << 20))
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "modelcanary_ledger", "--listen", "127.0.0.1:0", "--reserve", "0"),
            *("--state", str(small_disk / "state"), "--segment-pairs", "2000"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        try:
            with httpx.Client(base_url=address) as client:
                _fill_and_recover(client, filler, make_pair)
        finally:
            process.kill()


def _fill_and_recover(client: httpx.Client, filler: Path, make_pair) -> None:
    put = {"epoch": 1, "instructions": {"version": 1, "run": "r1", "share": 1.0}, "spec": SPEC}
    client.put(f"{MODEL}/instructions", json=put).raise_for_status()
    number = 0

    def send() -> tuple[int, list[str]]:
        nonlocal number
        number += 1
        ids = [f"{number}.{i}" for i in range(200)]
        body = msgspec.msgpack.encode(
            PairBatch(f"b{number}", "s", "r1", [make_pair(identifier, time.time()) for identifier in ids])
        )
        response = client.post(f"{MODEL}/pairs", content=body, headers={"Content-Type": "application/vnd.msgpack"})
        return response.status_code, ids

    recorded: list[str] = []
    while True:
        status, ids = send()
        if status != 200:
            break
        recorded += ids
        assert number < 1000, "the disk never filled"
    assert status == 507
    assert len(recorded) > 2000
    assert client.get("/readyz").status_code == 200
    assert client.get(f"{MODEL}/evidence").status_code == 200
    assert send()[0] == 507
    filler.unlink()
    status, ids = send()
    assert status == 200
    recorded += ids
    labels = [{"id": identifier, "label": 1} for identifier in recorded[::10]]
    assert client.post("/v1/feedback", json=labels).json()["joined"] == len(labels)
    counts = client.get(f"{MODEL}/evidence").json()["counts"]
    assert (counts["pairs"], counts["labelled"]) == (len(recorded), len(labels))
    assert len(client.get(f"{MODEL}/pairs").text.splitlines()) == len(recorded)


def test_a_version_of_the_evidence_never_comes_again(world, make_pair):
    """What a transaction that failed throws away is read back, and readers ask for what is newer than they know."""
    seen = set()
    for number in range(4):
        world.record(make_pair(f"v{number}", world.now))
        world.fold()
        seen.add(world.ledger.evidence_version(world.standing, None))
        with pytest.raises(sqlite3.OperationalError), world.ledger.transaction(world.now):
            raise sqlite3.OperationalError("no room")
    assert len(seen) == 4


def test_a_segment_whose_log_is_being_read_is_sealed_later(world, make_pair):
    async def scenario() -> None:
        writer = Writer(world.ledger, lambda: world.now)
        writer.start()
        assert await writer.record(world.standing, world.batch([make_pair("a", world.now)])) == 1
        pairs = world.ledger._store.pairs
        pairs._open.segment.connection.execute("PRAGMA busy_timeout = 50")
        with contextlib.closing(connect_reading(pairs.catalogue.path(pairs._open.info.no), sealed=False)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM pair").fetchone()
            world.now += 3600.0
            with pytest.raises(Busy):
                await writer.record(world.standing, world.batch([make_pair("b", world.now)]))
        assert await writer.record(world.standing, world.batch([make_pair("c", world.now)])) == 1
        await writer.stop()
        assert world.evidence().counts["pairs"] == 2

    asyncio.run(scenario())
