"""Servers of the tests' own, each in a thread, and ports that nobody listens on."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from socketserver import TCPServer


@contextlib.contextmanager
def listening(server: TCPServer) -> Iterator[str]:
    """Serves until it is left, and is closed then; its URL."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def free_ports(count: int) -> list[int]:
    """Chosen by the kernel, for servers that have to be told their own before they begin."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
