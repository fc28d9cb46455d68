"""Addresses and URLs as the user gives them to `run`: read, and tried before anything is started.

Called by `run` and `preflight`. Every error names the option and the remedy.
"""

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from modelcanary_cli.errors import InputError


@dataclass(frozen=True, slots=True)
class Address:
    """Where something listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def url(self) -> str:
        """How a client on this machine reaches it."""
        reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://{Address(reachable, self.port)}"


class Ports:
    """Addresses that are held for processes to listen on; a context manager.

    Each is bound and not listened on: a part that binds with SO_REUSEADDR, as servers do, may listen there, now and
    after a restart, and the system gives the port to no one else meanwhile, such as an outgoing connection.
    """

    def __init__(self) -> None:
        self._held: list[socket.socket] = []

    def hold(self, option: str, text: str) -> Address:
        """`HOST:PORT`, `[HOST]:PORT` for IPv6; port 0 becomes a free one. Raises InputError when it is in use."""
        host, colon, port = text.rpartition(":")
        if not colon or not host or not port.isdigit() or int(port) > 65535:
            raise InputError(option, f"{text!r} is not HOST:PORT", "use for example 127.0.0.1:8080")
        address = Address(host.strip("[]"), int(port))
        if port != "0" and any(held.getsockname()[1] == address.port for held in self._held):
            raise InputError(option, f"port {port} is another option's too", "give each option a port of its own")
        try:
            family, kind, protocol, _, where = socket.getaddrinfo(
                address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            holder = socket.socket(family, kind, protocol)
            self._held.append(holder)
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.bind(where)
        except OSError as error:
            raise InputError(
                option,
                f"cannot listen on {address} ({(error.strerror or str(error)).lower()})",
                "end what listens there, or choose another port",
            ) from error
        return Address(address.host, int(holder.getsockname()[1]))

    def close(self) -> None:
        for holder in self._held:
            holder.close()
        self._held.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_endpoints(given: Sequence[str]) -> dict[str, str]:
    """`NAME=URL` of each, http or https and with any path: where a Prometheus is."""
    found: dict[str, str] = {}
    for text in given:
        name, equals, url = text.partition("=")
        parts = urlsplit(url)
        if not equals or not name or parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError("--endpoint", f"{text!r} is not NAME=URL", "use for example main=http://127.0.0.1:9090")
        if name in found:
            raise InputError("--endpoint", f"{name} is there twice", "name each once")
        found[name] = url.rstrip("/")
    return found


def read_url(option: str, text: str) -> str:
    """The URL of a model server, without a path: paths are the clients' own."""
    parts = urlsplit(text)
    try:
        port = parts.port or 80
    except ValueError as error:
        raise InputError(option, f"the port of {text!r} is not one", "use 1 to 65535") from error
    if parts.scheme != "http" or not parts.hostname:
        raise InputError(
            option,
            f"{text!r} is not an http URL",
            "use http://HOST:PORT; TLS is left to a proxy in front of the model",
        )
    if parts.path.strip("/") or parts.query or parts.username:
        raise InputError(
            option, f"{text!r} has more than host and port", "use http://HOST:PORT; paths are the clients' own"
        )
    return Address(parts.hostname, port).url
