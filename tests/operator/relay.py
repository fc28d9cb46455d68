"""Carries connections from this machine's loopback into the network that a test's API server lives in."""

import contextlib
import socket
import threading
from typing import Protocol


class Connects(Protocol):
    def connect(self, address: tuple[str, int], timeout: float) -> socket.socket: ...


class Relay:
    """Listens on a port of the kernel's choice; use it as a context manager."""

    def __init__(self, network: Connects, address: tuple[str, int]) -> None:
        self._network = network
        self._address = address
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ends: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self.port = int(self._listener.getsockname()[1])

    def __enter__(self) -> "Relay":
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        for end in (self._listener, *self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5.0)
        for end in (self._listener, *self._ends):
            end.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self._ends.append(near)
            try:
                far = self._network.connect(self._address, 5.0)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            self._ends.append(far)
            for one, other in ((near, far), (far, near)):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                carrier = threading.Thread(target=_carry, args=(one, other), daemon=True)
                self._threads.append(carrier)
                carrier.start()


def _carry(one: socket.socket, other: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := one.recv(1 << 16):
            other.sendall(data)
    for end in (one, other):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
