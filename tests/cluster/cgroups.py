"""The cgroup that the node's pods live in, for machines with cgroup v1, hybrid or v2.

Called by `node`. `name`: the kubelet's `cgroupRoot`.
"""

from pathlib import Path

from tests.cluster.errors import ClusterError

_ROOT = Path("/sys/fs/cgroup")
_V1 = ("cpu", "cpuacct", "cpuset", "memory", "pids", "devices", "freezer", "blkio", "systemd")
_MADE_BY_RUNC = ("unified",)  # of a hybrid machine
#: On a busy machine all pods together are given as much as so many processes outside of any cgroup; else they were one.
_PROCESSES = 12


def make(name: str) -> None:
    try:
        if (_ROOT / "cgroup.controllers").is_file():
            _make_v2(name)
        else:
            _make_v1(name)
    except OSError as error:
        raise ClusterError(f"the node's cgroup cannot be made: {error}; use a cluster of yours or kind") from error


def remove(name: str) -> None:
    """What pods leave when they end: empty cgroups, innermost first."""
    for top in {_ROOT / name, *(_ROOT / controller / name for controller in (*_V1, *_MADE_BY_RUNC))}:
        if top.is_dir():
            for folder in sorted((path for path in top.rglob("*") if path.is_dir()), reverse=True):
                _remove_one(folder)
            _remove_one(top)


def _make_v1(name: str) -> None:
    for controller in _V1:
        if (_ROOT / controller).is_dir():
            (_ROOT / controller / name).mkdir(exist_ok=True)
    if (_ROOT / "cpu" / name).is_dir():
        (_ROOT / "cpu" / name / "cpu.shares").write_text(str(1024 * _PROCESSES))
    own = _ROOT / "cpuset" / name
    for file in ("cpuset.cpus", "cpuset.mems"):  # a new cpuset has none, and nothing can run in it
        if own.is_dir():
            (own / file).write_text((own.parent / file).read_text())


def _make_v2(name: str) -> None:
    wanted = [f"+{controller}" for controller in (_ROOT / "cgroup.controllers").read_text().split()]
    (_ROOT / "cgroup.subtree_control").write_text(" ".join(wanted))
    (_ROOT / name).mkdir(exist_ok=True)
    (_ROOT / name / "cpu.weight").write_text(str(100 * _PROCESSES))


def _remove_one(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        return  # still in use: it goes with its last process, and a new node uses it again
