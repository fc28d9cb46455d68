"""The small pure parts of the live path: sampler, drain, board, admin, metrics."""

import asyncio
import gc
import random
import subprocess
import sys

import pytest
from prometheus_client.parser import text_string_to_metric_families

from modelcanary_gate.sampling import position
from modelcanary_sidecar import collector
from modelcanary_sidecar.admin import Admin
from modelcanary_sidecar.board import Board
from modelcanary_sidecar.drain import Drain, Phase
from modelcanary_sidecar.figures import Drop, Figures
from modelcanary_sidecar.heads import Names
from modelcanary_sidecar.main import Backoff
from modelcanary_sidecar.metrics import Exporter
from modelcanary_sidecar.sampler import Sampler


def test_the_share_adapts_so_that_the_rate_holds_and_the_choice_follows_the_ids() -> None:
    sampler = Sampler()
    sampler.set(0.5, 20.0, 0.0)
    ids = random.Random(1)
    admitted: list[str] = []
    refused = 0
    per_second = [0] * 60
    for tick in range(600):  # 60 s at 400 requests/s, 200/s of them in the share
        now = tick / 10.0
        sampler.sweep(now)
        for _ in range(40):
            id = f"{ids.random()}"
            verdict = sampler.admit(id)
            assert (verdict is None) == (position(id) >= 0.5)
            refused += verdict is False
            if verdict:
                per_second[int(now)] += 1
                if now > 20:
                    admitted.append(id)
    assert max(per_second) <= 45  # two seconds' worth at the most, at the start
    assert 15 < sum(per_second[20:]) / 40 <= 20.5
    assert refused > 8000
    # adapted, it is the lowest positions that are taken, not those that came first in each second
    assert sum(position(id) < 0.1 for id in admitted) > 0.95 * len(admitted)


def test_below_the_rate_everything_in_the_share_is_taken() -> None:
    sampler = Sampler()
    sampler.set(1.0, 100.0, 0.0)
    for tick in range(100):
        sampler.sweep(tick / 10.0)
        assert all(sampler.admit(f"{tick}-{n}") for n in range(5))


def test_a_rate_of_nothing_takes_nothing() -> None:
    sampler = Sampler()
    sampler.set(1.0, 0.0, 0.0)
    sampler.sweep(1.0)
    assert sampler.admit("a") is False


def test_a_process_ends_after_the_delay_when_nobody_is_connected() -> None:
    drain = Drain(5.0, 25.0)
    assert drain.step(0.0, 0) is Phase.SERVING
    drain.end(10.0)
    assert drain.step(10.1, 0) is Phase.LEAVING
    assert drain.step(14.9, 0) is Phase.LEAVING
    assert drain.step(15.0, 1) is Phase.FINISHING
    assert drain.step(30.0, 1) is Phase.FINISHING
    assert drain.step(30.1, 0) is Phase.ENDED


def test_requests_in_flight_are_not_waited_for_for_ever() -> None:
    drain = Drain(5.0, 25.0)
    drain.end(0.0)
    assert drain.step(29.0, 1) is Phase.FINISHING
    assert drain.step(30.0, 1) is Phase.ENDED


def test_a_hook_alone_does_not_end_the_process_and_its_delay_counts() -> None:
    drain = Drain(5.0, 25.0)
    drain.leave(0.0)
    assert drain.step(4.9, 0) is Phase.LEAVING
    assert drain.step(100.0, 0) is Phase.EMPTYING
    drain.end(100.0)
    assert drain.step(100.1, 0) is Phase.FINISHING
    assert drain.step(100.2, 0) is Phase.ENDED


def test_a_hook_is_held_while_somebody_is_connected_or_still_comes() -> None:
    drain = Drain(5.0, 25.0)
    drain.leave(0.0)
    drain.step(4.9, 0)
    assert not drain.gone(0, 0.0, 4.9)  # the delay is not over
    drain.step(5.0, 1)
    assert not drain.gone(1, 0.0, 5.0)
    assert not drain.gone(0, 4.5, 5.0)  # the last one came just now: there may be more who have not heard
    assert drain.gone(0, 4.5, 5.5)
    assert not drain.held_long_enough(29.9)
    assert drain.held_long_enough(30.0)
    drain.end(30.0)
    drain.step(30.1, 0)
    assert not drain.gone(0, 0.0, 30.1)  # the hook is over


def test_a_model_that_is_started_again_ends_the_drain_and_no_other_does() -> None:
    drain = Drain(5.0, 25.0)
    assert not drain.model_is(True, 0.0)
    drain.leave(0.0)
    assert not drain.model_is(True, 0.1)  # it has not been ended yet
    assert not drain.model_is(False, 6.0)
    assert drain.model_is(True, 9.0)
    drain.stay()
    assert drain.step(9.1, 3) is Phase.SERVING
    drain.leave(20.0)
    assert drain.step(20.1, 3) is Phase.LEAVING
    assert not drain.model_is(True, 20.1)  # what was seen in the drain before does not count
    assert not drain.model_is(True, 80.0)
    assert drain.model_is(True, 91.0)  # a pod whose end was meant has ended by now
    drain.end(92.0)
    assert not drain.model_is(True, 200.0)
    drain.stay()
    assert drain.step(200.0, 0) is Phase.FINISHING


def test_what_one_process_counts_another_one_exports() -> None:
    board = Board(3)
    assert board.total() == Figures()
    for worker in range(3):
        for _ in range(2):  # both copies
            figures = Figures(captured=worker, loop_lag=0.1 * worker, refused={431: worker})
            figures.collections, figures.collector_pause = 2, 0.001 * worker
            figures.drop(Drop.RATE)
            figures.answered(1e-4, 0.003)
            figures.answered(1e-4, 0.003)
            board.write(worker, figures)
    total = board.total()
    assert total.captured == 3
    assert total.refused == {431: 3}
    assert total.dropped == {"rate": 3}
    assert total.requests == 6
    assert total.duration == pytest.approx(0.018)
    assert total.loop_lag == pytest.approx(0.2)
    assert total.collections == 6
    assert total.collector_pause == pytest.approx(0.002)


def test_looks_of_the_collector_are_counted_and_the_longest_is_known() -> None:
    threshold, callbacks = gc.get_threshold(), list(gc.callbacks)
    figures = Figures()
    try:
        collector.settle_watched(figures)
        gc.disable()  # no look but ours
        assert figures.collections == 0  # what it does itself is before the first request
        gc.collect()
        assert figures.collections == 1
        assert figures.collector_pause > 0.0
        figures.collector_pause = 1e9
        gc.collect(0)
        assert figures.collections == 2
        assert figures.collector_pause == 1e9
    finally:
        gc.enable()
        gc.callbacks[:] = callbacks
        gc.set_threshold(*threshold)
        gc.unfreeze()


def test_what_loading_took_for_a_while_goes_back_to_the_system() -> None:
    program = """if True:
        from modelcanary_sidecar import collector
        def size():
            for line in open("/proc/self/smaps_rollup"):
                if line.startswith("Anonymous:"):
                    return int(line.split()[1])
        passing = [bytes(1000) for _ in range(20_000)]
        last = bytes(1000)  # behind them: the heap does not get shorter by itself
        del passing
        before = size()
        collector.keep()
        print(before - size())"""
    freed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert int(freed) > 10_000  # kB


def test_all_have_left_when_each_says_so_of_the_same_drain() -> None:
    board = Board(2)
    assert not board.leaving
    board.tell_gone(0, True)
    assert not board.all_gone
    for _ in range(2):
        board.leave()
        board.leave()  # of another container's hook
        assert board.leaving and not board.all_gone
        board.tell_gone(0, True)
        assert not board.all_gone
        board.tell_gone(1, True)
        assert board.all_gone
        board.tell_gone(0, False)
        assert not board.all_gone
        board.tell_gone(0, True)
        board.stay()
        assert not board.leaving and not board.all_gone


def test_metrics_are_what_was_counted() -> None:
    figures = Figures(captured=7, waiting=2)
    figures.drop(Drop.RATE)
    figures.refuse(431)
    figures.answered(3e-5, 0.003)
    figures.answered(3e-5, 99.0)
    exporter = Exporter("ns", "fraud", lambda: figures, lambda: {"pairs:timeout": 3.0, "queue": 1.0})
    samples = {
        (sample.name, *(v for k, v in sorted(sample.labels.items()) if k not in ("namespace", "name"))): sample.value
        for family in text_string_to_metric_families(exporter.text().decode())
        for sample in family.samples
        if (sample.labels["namespace"], sample.labels["name"]) == ("ns", "fraud")
    }
    prefix = "modelcanary_sidecar_"
    assert samples[f"{prefix}requests_total",] == 2
    assert samples[f"{prefix}captured_total",] == 7
    assert samples[f"{prefix}dropped_total", "rate"] == 1
    assert samples[f"{prefix}refused_total", "431"] == 1
    assert samples[f"{prefix}added_seconds_bucket", "5e-05"] == 2
    assert samples[f"{prefix}added_seconds_bucket", "2.5e-05"] == 0
    assert samples[f"{prefix}added_seconds_count",] == 2
    assert samples[f"{prefix}request_seconds_total",] == pytest.approx(99.003)
    assert samples[f"{prefix}waiting",] == 2
    assert samples[f"{prefix}scorer", "pairs", "timeout"] == 3
    assert samples[f"{prefix}scorer", "queue", ""] == 1


async def _answer(request_line: str, drained: list[bool]) -> bytes:
    async def why() -> str | None:
        return "the model does not accept connections"

    async def drain() -> str:
        drained.append(True)
        return "drained"

    admin = Admin(lambda: b"metrics\n", why, "/drain/secret", drain)
    server = await asyncio.start_server(admin.answer, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(f"{request_line} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
    return answer


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        ("GET /healthz", 200),
        ("HEAD /healthz", 200),
        ("GET /readyz?verbose", 503),
        ("GET /metrics", 200),
        ("POST /metrics", 405),
        ("POST /drain/secret", 200),
        ("GET /drain/secret", 200),
        ("HEAD /drain/secret", 405),
        ("GET /drain", 404),
        ("POST /drain/secre", 404),
        ("GET /drain/other", 404),
        ("GET /", 404),
    ],
)
def test_the_admin_port_answers(request_line: str, status: int) -> None:
    drained: list[bool] = []
    answer = asyncio.run(_answer(request_line, drained))
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert bool(drained) == (status == 200 and "secret" in request_line)
    assert answer.endswith(b"\r\n\r\n") == request_line.startswith("HEAD")


def test_a_scorer_is_started_again_ever_more_slowly_until_it_is_steady() -> None:
    backoff = Backoff()
    assert [backoff.after(1.0) for _ in range(8)] == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert backoff.after(61.0) == 0.5


@pytest.mark.parametrize("rate", [0.2, 0.5, 1.0])
def test_a_rate_below_one_a_second_takes_one_now_and_then(rate: float) -> None:
    sampler = Sampler()
    sampler.set(1.0, rate, 0.0)
    taken = 0
    for tick in range(1000):
        sampler.sweep(tick / 10.0)
        taken += sampler.admit(f"{tick}") is True
    assert 0.5 * rate * 100 <= taken <= rate * 100 + 2


def test_names_that_are_sent_once_do_not_keep_out_those_that_are_sent_always() -> None:
    names = Names("X-Request-Id")
    for number in range(600):
        names.learn(b"X-%d" % number)
    names.learn(b"Content-Type")
    assert b"Content-Type" in names.known
    names.learn(b"X" * 1000)
    assert b"X" * 1000 not in names.known
    assert len(names.known) <= 512
