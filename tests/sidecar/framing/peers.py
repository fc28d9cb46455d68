"""Who the framing tests talk to: a model that reads strictly, nginx, and a client that knows when it was read."""

import os
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.sidecar.framing.reading import Asked, RequestStream
from tests.sidecar.live_path.processes import DEADLINE, Connection, Process, RawModel, until

_SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, _NETLINK_SOCK_DIAG, _NOBODY = 20, 1, 4, 0xFFFFFFFF
_REQUEST = struct.Struct("=IHHII BBBBI")
_ID = struct.Struct("!HH4s12x4s12x")


class Kernel:
    """Asks the kernel how much of what was sent to a connection's other end has not been read there.

    This is what lets a test deliver bytes one by one: the next is sent when the last was read by itself.
    """

    def __init__(self) -> None:
        self._netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG)
        self._netlink.settimeout(DEADLINE)

    def unread(self, client: socket.socket) -> int:
        """Bytes in the other end's receive queue; 0 where it is gone."""
        (host, port), (peer_host, peer_port) = client.getsockname(), client.getpeername()
        identity = _ID.pack(peer_port, port, socket.inet_aton(peer_host), socket.inet_aton(host))
        body = identity + struct.pack("=III", 0, _NOBODY, _NOBODY)
        head = _REQUEST.pack(
            _REQUEST.size + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 0, 0, socket.AF_INET, 6, 0, 0, 0xFFFFFFFF
        )
        self._netlink.send(head + body)
        answer = self._netlink.recv(8192)
        kind = struct.unpack_from("=H", answer, 4)[0]
        if kind != _SOCK_DIAG_BY_FAMILY:
            return 0
        return int(struct.unpack_from("=I", answer, 16 + 4 + 48 + 4)[0])

    def send_slowly(self, client: socket.socket, wire: bytes, by: int) -> None:
        """In pieces of `by` bytes, each read by itself; no further than the other end takes it."""
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(ConnectionError):
            for start in range(0, len(wire), by):
                client.send(wire[start : start + by])
                self.await_read(client)

    def await_read(self, client: socket.socket) -> None:
        """Until the other end has read all, or is gone."""
        deadline = time.monotonic() + DEADLINE
        while self._pending(client):
            os.sched_yield()
            assert time.monotonic() < deadline, "it was not read"

    def _pending(self, client: socket.socket) -> int:
        try:
            return self.unread(client)
        except OSError:  # the other end has closed
            return 0

    def close(self) -> None:
        self._netlink.close()


class StrictModel(RawModel):
    """Reads with h11, keeps what it read and the bytes that it was, and answers with what it read."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.sent: list[bytes] = []  # of each of `asked`, as it came
        self.errors: list[str] = []
        super().__init__()
        self.script = self._serve

    def _serve(self, connection: Connection) -> None:
        stream = RequestStream()
        came = b""
        while data := connection.socket.recv(1 << 16):
            came += data
            read = stream.feed(data)
            if stream.error or len(read) > 1 or (read and not stream.between):
                self.errors.append(stream.error or f"more than one request at a time: {came!r}")
                connection.close()
                return
            for asked in read:
                self.asked.append(asked)
                self.sent.append(came)
                came = b""
                body = b"" if asked.method == b"HEAD" else asked.echo()
                length = len(asked.echo())
                connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (length, body))

    def forget(self) -> None:
        self.asked, self.sent, self.errors = [], [], []


_CONFIGURATION = """
daemon off; worker_processes 1; {user} pid {folder}/pid; error_log {folder}/error.log crit;
events {{ worker_connections 512; }}
http {{
  access_log off; keepalive_timeout 60s; underscores_in_headers on; merge_slashes off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  large_client_header_buffers 4 64k;
  upstream model {{ server 127.0.0.1:{model}; keepalive 4; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://model; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host;
      proxy_request_buffering off; proxy_buffering off; proxy_next_upstream off; proxy_read_timeout 5s;
    }}
  }}
}}
"""


@contextmanager
def sidecar(model: int, *more: str) -> Iterator[int]:
    """Mirroring nothing, and with one connection to its model: whatever is left on that would be seen. Its port."""
    command = [sys.executable, "-m", "modelcanary_sidecar.main", "--ledger", "http://127.0.0.1:9", "--name", "x"]
    command += ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--connections", "1"]
    command += ["--upstream", f"http://127.0.0.1:{model}", "--drain-delay", "0s", *more]
    process = Process(command)
    try:
        yield process.port
    finally:
        ended = process.stop()
    assert ended == 0


@contextmanager
def nginx(model: int, folder: Path) -> Iterator[int]:
    """A real one in the foreground, as a reverse proxy that streams; its port. Debian's service is not needed."""
    program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
    assert program, "nginx is missing; `apt-get install --no-install-recommends nginx` brings it (no service is needed)"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.set_inheritable(True)
        port = listener.getsockname()[1]
        configuration = folder / "nginx.conf"
        user = "user root;" if os.geteuid() == 0 else ""  # else its worker could not write into the folder
        configuration.write_text(_CONFIGURATION.format(folder=folder, model=model, port=port, user=user))
        # A socket that it inherits by this variable is one on a port that nobody else can have taken.
        process = subprocess.Popen(
            [program, "-p", str(folder), "-c", str(configuration), "-e", str(folder / "start.log")],
            env={**os.environ, "NGINX": f"{listener.fileno()};"},
            pass_fds=(listener.fileno(),),
            stderr=subprocess.DEVNULL,
        )
    try:
        until(lambda: (folder / "pid").exists() or process.poll() is not None)
        assert process.poll() is None, (folder / "start.log").read_text()
        yield port
    finally:
        process.terminate()
        process.wait(DEADLINE)
