"""Where only the directory of the state is writable, as in the container that the chart makes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.files

#: More than SQLite sorts without a temporary file.
PAIRS = 120_000
OPEN = """
import pathlib, time
from modelcanary_ledger.core import Ledger
from modelcanary_ledger.sqlite_store import SqliteStore

ledger = Ledger(SqliteStore(pathlib.Path("/mnt"), time.time()), time.time())
print(*sorted(name for _, name in ledger.standings))
"""
#: With mounts of its own: the state at /mnt, and all places that SQLite would take for temporary files read-only.
CONFINED = """
mount --bind "$1" /mnt
for place in /tmp /var/tmp /usr/tmp; do
  if [ -d "$place" ]; then mount --rbind "$place" "$place" && mount -o remount,bind,ro "$place"; fi
done
cd /proc
exec "$2" -c "$3"
"""


def test_a_ledger_with_a_large_open_segment_starts_again(world, make_pair):
    for start in range(0, PAIRS, 5000):
        world.record(*(make_pair(str(start + i), world.now) for i in range(5000)))
    world.ledger.close()
    started = confined(world.directory)
    assert (started.stdout, started.stderr) == ("m\n", "")


def test_what_each_run_has_is_known_again(world, make_pair):
    for epoch, run in enumerate(("r1", "r2", "r3"), start=1):
        world.put(run, epoch=epoch)
        world.record(*(make_pair(f"{run}-{i}", world.now) for i in range(epoch)), run=run)
    known = world.ledger._store.pairs._open.info.ranges
    assert [last - first for first, last in known.values()] == [0, 1, 2]
    world.restart()
    assert world.ledger._store.pairs._open.info.ranges == known


def confined(state: Path) -> subprocess.CompletedProcess[str]:
    alone = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
    return subprocess.run(
        [*alone, "sh", "-euc", CONFINED, "sh", str(state), sys.executable, OPEN],
        env={name: value for name, value in os.environ.items() if name not in {"TMPDIR", "SQLITE_TMPDIR"}},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
