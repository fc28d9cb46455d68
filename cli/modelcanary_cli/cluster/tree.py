"""What runs for a ModelCanary, as a tree of 80 columns: Deployments, their ReplicaSets and pods. Pure; of `drawing`."""

from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from modelcanary_cli.cluster.look import Picture, Pod, Workload

_NAME = 44


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    state: str
    style: str
    ready: str = ""
    restarts: str = ""
    since: float = 0.0


def tree(picture: Picture, now: float) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True, width=_NAME)
    for _ in range(4):
        table.add_column(no_wrap=True, overflow="ellipsis")
    table.add_row(*(Text(head, "dim") for head in ("NAME", "STATUS", "READY", "RESTARTS", "AGE")))
    for row in _rows(picture):
        age = short_age(now - row.since) if row.since else ""
        table.add_row(_shortened(row.name), Text(row.state, row.style), row.ready, row.restarts, age)
    return table


def _rows(picture: Picture) -> list[Row]:
    rows = [Row(picture.name, "ModelCanary", "bold", since=picture.since)]
    for index, workload in enumerate(picture.workloads):
        last = index == len(picture.workloads) - 1
        rows += _workload(picture, workload, "└─ " if last else "├─ ", "   " if last else "│  ")
    return rows


def _workload(picture: Picture, workload: Workload, branch: str, below: str) -> list[Row]:
    state, style = _state(picture, workload)
    rows = [Row(f"{branch}{workload.name}", state, style, f"{workload.ready}/{workload.asked}", "", workload.since)]
    for index, group in enumerate(workload.sets):
        last = index == len(workload.sets) - 1
        fine = group.ready >= group.asked
        name = f"{below}{'└─ ' if last else '├─ '}{group.name}"
        rows.append(
            Row(
                name,
                "ReplicaSet",
                "" if fine else "yellow",
                f"{group.ready}/{group.asked}",
                "",
                group.since,
            )
        )
        inner = below + ("   " if last else "│  ")
        rows += [_pod(pod, f"{inner}{'└─ ' if pod is group.pods[-1] else '├─ '}") for pod in group.pods]
    return rows


def _pod(pod: Pod, branch: str) -> Row:
    style = "green" if pod.fine else "yellow" if pod.state in ("Running", "Pending", "Terminating") else "red"
    return Row(f"{branch}{pod.name}", pod.state, style, f"{pod.ready}/{pod.containers}", str(pod.restarts), pod.since)


def _state(picture: Picture, workload: Workload) -> tuple[str, str]:
    """In a word, what the Deployment is for now."""
    if workload.role == "target":
        if workload.paused and not workload.asked:
            return "target, held", "dim"
        return ("target, paused", "yellow") if workload.paused else ("target", "")
    up = workload.ready >= workload.asked and workload.asked > 0
    if workload.role == "baseline":
        return "baseline", "green" if up else "yellow"
    weight = picture.weight if picture.weight not in ("", "0") else ""
    return f"candidate {weight}%" if weight else "candidate", "green" if up else "yellow"


def _shortened(name: str) -> Text:
    """The end of a pod's name tells it from others: the middle goes."""
    if len(name) <= _NAME:
        return Text(name)
    keep = _NAME // 2
    return Text(f"{name[:keep]}…{name[-(_NAME - keep - 1) :]}")


def short_age(seconds: float) -> str:
    """12s, 5m, 3h, 2d: as kubectl."""
    seconds = max(0.0, seconds)
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("m", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s"
