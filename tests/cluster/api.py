"""A small client of the Kubernetes API: JSON over one connection, opened in the cluster's network.

Called by tests of the API and by `control_plane`. It checks the server's certificate and shows its own.
"""

import http.client
import json
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.cluster.errors import ClusterError
from tests.cluster.network import Network

_SECONDS = 60.0


class ApiClient:
    """Not for several threads at once."""

    def __init__(
        self, network: Network, address: tuple[str, int], authority: Path, certificate: Path, key: Path
    ) -> None:
        self._network = network
        self._address = address
        self._context = ssl.create_default_context(cafile=str(authority))
        self._context.load_cert_chain(certificate, key)
        self._connection: http.client.HTTPConnection | None = None

    def request(
        self, method: str, path: str, body: Mapping[str, object] | None = None, kind: str = "application/json"
    ) -> tuple[int, dict[str, Any]]:
        """Status and body; a body that is no JSON comes as {"message": text}."""
        content = None if body is None else json.dumps(body).encode()
        headers = {"Accept": "application/json", **({} if content is None else {"Content-Type": kind})}
        connection = self._connection or self._open()
        try:
            connection.request(method, path, content, headers)
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise ClusterError(f"{method} {path} did not reach the API server: {error}") from error
        try:
            decoded = json.loads(text)
        except ValueError:
            decoded = None
        return answer.status, decoded if isinstance(decoded, dict) else {"message": text.decode(errors="replace")}

    def expect(self, method: str, path: str, body: Mapping[str, object] | None = None, **more: str) -> dict[str, Any]:
        """The body of an answer that must be a success."""
        status, answer = self.request(method, path, body, **more)
        if status >= http.HTTPStatus.BAD_REQUEST:
            raise ClusterError(f"{method} {path}: {status} {answer.get('message', answer)}")
        return answer

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> http.client.HTTPConnection:
        host, port = self._address
        connection = http.client.HTTPConnection(host, port, timeout=_SECONDS)
        plain = self._network.connect(self._address, _SECONDS)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a body follows its head at once
        try:
            connection.sock = self._context.wrap_socket(plain, server_hostname=host)
        except OSError:
            plain.close()
            raise
        self._connection = connection
        return connection
