"""The benchmark of the data plane measures what it says: the load generator, the estimates, the goals."""

import json
import random
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from bench.dataplane import cells, goals, paired, payload, programs, report
from bench.sections import keep

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
Behaviour = Callable[[socket.socket, int], None]


@pytest.fixture(scope="module")
def load() -> str:
    return str(programs.compiled("load.c", ["gcc", "-O2"], ["-lm"]))


@contextmanager
def _served(behaviour: Behaviour) -> Iterator[tuple[int, list[bytes]]]:
    """A server of one thread: the port, and the requests that came. `behaviour` answers the request of a number."""
    listener = socket.create_server(("127.0.0.1", 0))
    requests: list[bytes] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                _answer(connection, requests, behaviour)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1], requests
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def _answer(connection: socket.socket, requests: list[bytes], behaviour: Behaviour) -> None:
    data = b""
    while True:
        try:
            got = connection.recv(65536)
        except ConnectionResetError:
            return
        if not got:
            return
        data += got
        while len(data) >= (size := len(payload.request(1024))):
            requests.append(data[:size])
            data = data[size:]
            behaviour(connection, len(requests))


def _ask(load: str, folder: Path, port: int, rate: int, seconds: float = 1.0) -> dict[str, float]:
    request = payload.write(folder, 1024)
    command = [load, str(port), str(request), "1", "0", str(seconds), str(rate), "7"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def test_every_request_is_whole_has_an_id_of_its_own_and_is_counted(load: str, tmp_path: Path) -> None:
    with _served(lambda connection, _: connection.sendall(ANSWER)) as (port, requests):
        found = _ask(load, tmp_path, port, 0, 0.3)
    assert found["asked"] == len(requests)
    assert found["asked"] - found["answered"] <= 1  # the last one may be late
    assert found["errors"] == found["wrong"] == 0
    ids = {request.split(b"X-Request-Id: ")[1][:16] for request in requests}
    assert len(ids) == len(requests)
    assert all(int(id, 16) for id in ids)
    before, _, body = payload.request(1024).partition(b"\r\n\r\n")
    assert requests[0].endswith(body)
    assert b"Content-Length: %d" % len(body) in before


def test_a_stall_counts_for_all_who_would_have_come_meanwhile(load: str, tmp_path: Path) -> None:
    def stalls_once(connection: socket.socket, number: int) -> None:
        if number == 20:
            time.sleep(0.5)
        connection.sendall(ANSWER)

    with _served(stalls_once) as (port, _):
        found = _ask(load, tmp_path, port, 200)
    # One request of 200 met the stall; of those that were due within it, half waited more than 0.2 s.
    assert found["p90"] > 200_000
    assert found["most"] >= 500_000


def test_what_is_not_answered_well_is_counted(load: str, tmp_path: Path) -> None:
    def fails(connection: socket.socket, number: int) -> None:
        if number == 3:
            connection.sendall(ANSWER.replace(b"200 OK", b"503 No"))
        elif number == 5:
            connection.shutdown(socket.SHUT_RDWR)
        elif number < 9:
            connection.sendall(ANSWER)

    with _served(fails) as (port, requests):
        found = _ask(load, tmp_path, port, 100)
    assert found["wrong"] == 1
    assert found["errors"] == 1
    assert found["unanswered"] == 1
    assert found["unsent"] == found["due"] - len(requests)
    assert found["p99"] > 400_000  # those never sent have waited, too


def test_an_interval_holds_the_truth_as_often_as_it_says() -> None:
    source = random.Random(5)
    held = 0
    for _ in range(1000):
        values = [0.02 + source.gauss(0, 0.05) for _ in range(14)]
        middle, low, high = paired.estimate(values)
        assert low <= middle <= high
        held += low <= 0.02 <= high
    assert 870 <= held <= 935


def test_an_outlier_does_not_move_the_estimate() -> None:
    values = [0.001 * number for number in range(-7, 8)]
    middle, low, high = paired.estimate(values)
    assert middle == pytest.approx(0.0)
    wild = paired.estimate([*values[:-1], 50.0])
    assert wild == pytest.approx((middle, low, high), abs=0.001)


def _detail(
    proxy: str, percent: int, values: dict[str, float], delay: int = 2, rate: int = 1000, **more: float
) -> goals.Row:
    cell = {"proxy": proxy, "mirror_pct": percent, "shadow": cells.FAST if percent else None, "upstream_ms": delay}
    cell |= {"body_bytes": cells.SMALL, "rate": rate, "memory_mb": 60.0, "errors": 0, "served_rps": 1000.0}
    cell |= {"cpu_us_per_request": None, "p50_us": 2000.0, "p99_us": 2100.0}
    return {"cell": cell | values, "classes": 10, "scorer_cpu_us": 19.0, **more}


def test_goals_are_ratios_of_cells_of_one_run() -> None:
    results = goals.Results(
        [
            _detail(cells.DIRECT, 0, {"p50_us": 2000, "p99_us": 2100}),
            _detail(cells.NGINX, 0, {"p50_us": 2100, "p99_us": 2300}),
            _detail(cells.SIDECAR, 0, {"p50_us": 2110, "p99_us": 2400}),
            _detail(cells.NGINX, 100, {"cpu_us_per_request": 100.0}),
            _detail(cells.SIDECAR, 100, {"cpu_us_per_request": 90.0, "memory_mb": 65.0}, scored_share=1.0),
            _detail(cells.NGINX, 100, {"served_rps": 10_000.0}, 0, 0),
            _detail(cells.SIDECAR, 100, {"served_rps": 20_000.0}, 0, 0, scored_share=0.02),
            _detail(cells.SIDECAR, 100, {"cpu_us_per_request": 100.0}, 0, 5000, scored_share=1.0),
            _detail(cells.SIDECAR, 100, {"memory_mb": 90.0}, rate=500, classes=1000, scorer_cpu_us=151.0),
        ]
    )
    found = {goal.what.split(" (")[0]: goal for goal in goals.judged(results)}
    cpu = found["CPU per request at 1,000/s, all mirrored and scored, to nginx"]
    assert cpu.met
    assert cpu.found.startswith("0.90 (90 / 100 µs")
    assert found["Throughput, all mirrored, to nginx"].met
    whole = found["Throughput if every pair is scored"]
    assert not whole.met
    assert whole.found.startswith("1.00 (10,000 / 10,000")
    assert found["Added p50 at 1,000/s, to nginx"].met
    assert not found["Added p99 at 1,000/s, to nginx"].met
    assert found["Scoring a pair, 10 classes at 1,000/s"].met
    assert not found["Scoring a pair, 1,000 classes at 500/s"].met
    memory = found["Memory, most of all cells"]
    assert not memory.met
    assert memory.found.startswith("65.0 MiB")  # of ten classes, which go without numpy
    assert not [what for what in found if "envoy" in what]  # which was not measured
    assert report.goals_table(list(found.values())).count("**missed**") == 4
    assert "| **sidecar** | 100% | fast |" in report.cell_tables(results)
    assert "500 requests/s, model of 2 ms, bodies of 1 KiB, 1,000 classes" in report.cell_tables(results)


def test_a_part_of_the_results_is_replaced_and_the_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "RESULTS.md"
    keep("one", "first\n", path)
    keep("two", "second", path)
    keep("one", "new", path)
    assert path.read_text() == (
        "# Results\n\n<!-- one:begin -->\nnew\n<!-- one:end -->\n\n<!-- two:begin -->\nsecond\n<!-- two:end -->\n"
    )
