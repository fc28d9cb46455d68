"""What is exported, and how the admin port answers."""

import asyncio
import socket

import pytest
from prometheus_client.parser import text_string_to_metric_families

from modelcanary_sidecar.admin import Admin
from modelcanary_sidecar.figures import CELLS, Cells, figures
from modelcanary_sidecar.metrics import Exporter


def test_metrics_are_what_was_counted() -> None:
    written = {"captured": 7, "waiting": 2, "dropped.rate": 1, "refused.431": 1, "canary.late": 4}
    written |= {"added.1": 2, "added_sum": 6e-5, "duration": 99.003}
    found = figures([Cells([float(written.get(name, 0)) for name in CELLS])])
    exporter = Exporter("ns", "fraud", lambda: found, lambda: {"pairs:timeout": 3.0, "queue": 1.0})
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
    assert (f"{prefix}dropped_total", "shed") not in samples  # what has not happened is not there
    assert samples[f"{prefix}refused_total", "431"] == 1
    assert samples[f"{prefix}canary_total", "late"] == 4
    assert samples[f"{prefix}added_seconds_bucket", "5e-05"] == 2
    assert samples[f"{prefix}added_seconds_bucket", "2.5e-05"] == 0
    assert samples[f"{prefix}added_seconds_count",] == 2
    assert samples[f"{prefix}request_seconds_total",] == pytest.approx(99.003)
    assert samples[f"{prefix}waiting",] == 2
    assert samples[f"{prefix}scorer", "pairs", "timeout"] == 3
    assert samples[f"{prefix}scorer", "queue", ""] == 1


def test_where_the_live_processes_ask_the_candidate_they_say_how_that_goes() -> None:
    of = {"asks": 1, "breaker": 2, "queue": 5, "held_bytes": 50, "asking_in_flight": 3, "asking_connections": 4}
    asking = Cells([float(of.get(name, 0)) for name in CELLS])
    found = figures([asking, Cells([0.0] * len(CELLS)), asking])
    exporter = Exporter("ns", "fraud", lambda: found, lambda: {"queue": 9.0, "scores:baseline": 1.0})
    text = exporter.text().decode()
    for figure, outcome, value in (
        ("breaker", "halfOpen", 2.0),
        ("breaker", "closed", 0.0),
        ("queue", "", 10.0),
        ("in_flight", "", 6.0),
        ("scores", "baseline", 1.0),
    ):
        labels = f'figure="{figure}",name="fraud",namespace="ns",outcome="{outcome}"'
        assert f"modelcanary_sidecar_scorer{{{labels}}} {value}\n" in text


async def _answer(request_line: str, drained: list[bool]) -> bytes:
    async def why() -> str | None:
        return "the model does not accept connections"

    async def drain() -> str:
        drained.append(True)
        return "drained"

    admin = Admin(lambda: b"metrics\n", why, "/drain/secret", drain)
    listener = socket.create_server(("127.0.0.1", 0))
    server = await admin.serve(listener)
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


def test_so_many_connections_at_a_time_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelcanary_sidecar.admin._AT_A_TIME", 3)

    async def ready() -> None:
        return None

    async def drain() -> str:
        return "drained"

    async def main() -> None:
        admin = Admin(lambda: b"", ready, "", drain)
        async with await admin.serve(socket.create_server(("127.0.0.1", 0))) as server:
            address = server.sockets[0].getsockname()

            async def ask() -> bytes:
                reader, writer = await asyncio.open_connection(*address)
                writer.write(b"GET /healthz HTTP/1.1\r\n\r\n")
                try:
                    return await reader.read()
                except ConnectionError:
                    return b""
                finally:
                    writer.close()

            silent = [await asyncio.open_connection(*address) for _ in range(3)]
            async with asyncio.timeout(10.0):
                while await ask():  # until the last of them has been accepted
                    pass
                for _, writer in silent:
                    writer.close()
                while not (answer := await ask()):
                    pass
            assert answer.startswith(b"HTTP/1.1 200 ")

    asyncio.run(main())
