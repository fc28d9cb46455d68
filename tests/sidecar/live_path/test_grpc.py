"""gRPC through the sidecar: a real server and a real client, unharmed, counted, and told to go when a pod ends."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import grpc
import pytest
from tests.sidecar.live_path.processes import DEADLINE, Process, RawModel, until
from tests.sidecar.live_path.test_draining import HOOK, Hook


@dataclass
class Model(grpc.GenericRpcHandler):
    """Echoes; a stream answers with what it got, piece by piece, when it may."""

    may: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(10**6))
    peers: set[str] = field(default_factory=set)

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        if details.method == "/m/Infer":
            return grpc.unary_unary_rpc_method_handler(self._infer)
        if details.method == "/m/Stream":
            return grpc.unary_stream_rpc_method_handler(self._stream)
        return None

    def _infer(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        self.peers.add(context.peer())
        return request[::-1]

    def _stream(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        for number in range(20):
            assert self.may.acquire(timeout=DEADLINE)
            yield b"%d %b" % (number, request)


@pytest.fixture
def grpc_model() -> Iterator[tuple[Model, int]]:
    model = Model()
    with ThreadPoolExecutor(16) as threads:
        server = grpc.server(threads, handlers=[model])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield model, port
        server.stop(None).wait()


@pytest.fixture
def sidecar(start: Callable[..., Process], grpc_model: tuple[Model, int]) -> Process:
    upstream = f"http://127.0.0.1:{grpc_model[1]}"
    return start("--upstream", upstream, "--drain-path", HOOK, "--drain-delay", "300ms")


def channel(process: Process) -> grpc.Channel:
    # A channel of its own: else clients in one process share their connections.
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
    return grpc.insecure_channel(f"127.0.0.1:{process.port}", options=options)


def test_calls_and_streams_are_answered_and_the_connection_is_counted(sidecar: Process) -> None:
    with channel(sidecar) as client:
        infer, stream = client.unary_unary("/m/Infer"), client.unary_stream("/m/Stream")
        large = bytes(range(256)) * 8000
        assert infer(large, timeout=DEADLINE) == large[::-1]
        calls = [infer.future(b"%d" % number * 50, timeout=DEADLINE) for number in range(200)]
        assert [call.result() for call in calls] == [(b"%d" % number * 50)[::-1] for number in range(200)]
        assert list(stream(b"x", timeout=DEADLINE)) == [b"%d x" % number for number in range(20)]
        with pytest.raises(grpc.RpcError) as caught:
            client.unary_unary("/m/Unknown")(b"", timeout=DEADLINE)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    until(lambda: sidecar.metric("passed_through_total") == 1)
    assert sidecar.metric("captured_total") == 0


def test_clients_are_told_to_go_and_what_is_under_way_is_finished(
    sidecar: Process, grpc_model: tuple[Model, int]
) -> None:
    model, _ = grpc_model
    model.may = threading.Semaphore(3)
    with channel(sidecar) as client, channel(sidecar) as idle:
        infer = client.unary_unary("/m/Infer")
        assert idle.unary_unary("/m/Infer")(b"ab", timeout=DEADLINE) == b"ba"
        assert infer(b"ab", timeout=DEADLINE) == b"ba"
        stream = client.unary_stream("/m/Stream")(b"x", timeout=DEADLINE)
        got = [next(stream) for _ in range(3)]
        hook = Hook(sidecar)
        # What is asked from here on is asked on another connection, which a Service would lead elsewhere.
        until(lambda: infer(b"ab", timeout=DEADLINE) == b"ba" and len(model.peers) > 2)
        assert hook.held  # by the stream
        model.may.release(100)
        got += list(stream)
        assert got == [b"%d x" % number for number in range(20)]
    assert hook.wait().endswith("drained\n")
    assert sidecar.stop() == 0


def test_an_idle_client_of_grpc_leaves_by_itself(sidecar: Process) -> None:
    with channel(sidecar) as client:
        assert client.unary_unary("/m/Infer")(b"ab", timeout=DEADLINE) == b"ba"
        assert Hook(sidecar).wait().endswith("drained\n")


def test_who_comes_in_spite_of_it_is_answered(sidecar: Process) -> None:
    with channel(sidecar) as before:
        assert before.unary_unary("/m/Infer")(b"ab", timeout=DEADLINE) == b"ba"
        hook = Hook(sidecar)
        until(lambda: "503" in sidecar.admin_says("/readyz"))
        for _ in range(10):
            with channel(sidecar) as late:
                assert late.unary_unary("/m/Infer")(b"ab", timeout=DEADLINE) == b"ba"
    hook.wait()


def test_a_model_that_speaks_no_http2_is_passed_through_as_it_is(
    model: RawModel, start: Callable[..., Process]
) -> None:
    process = start("--drain-path", HOOK)
    with process.connect() as client:
        client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"Content-Length: 0\r\n\r\n")
        client.settimeout(DEADLINE)
        assert client.recv(100).startswith(b"HTTP/1.1 200 OK\r\n")
