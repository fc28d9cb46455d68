"""Addresses and URLs as the user gives them to `run`: read, and tried before anything is started.

Called by `run` and `preflight`. Every error names the option and the remedy.
"""

import socket
from dataclasses import dataclass
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
    def url(self) -> str:
        """How a client on this machine reaches it."""
        reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://{Address(reachable, self.port)}"


def read_address(option: str, text: str) -> Address:
    """`HOST:PORT`, `[HOST]:PORT` for IPv6; port 0 becomes a free one."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise InputError(option, f"{text!r} is not HOST:PORT", "use for example 127.0.0.1:8080")
    address = Address(host.strip("[]"), int(port))
    return _listenable(option, address)


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


def _listenable(option: str, address: Address) -> Address:
    """The address, with a port if it had none; raises when nobody could listen there."""
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
            probe.listen(1)
            return Address(address.host, int(probe.getsockname()[1]))
    except OSError as error:
        raise InputError(
            option,
            f"cannot listen on {address} ({(error.strerror or str(error)).lower()})",
            "end what listens there, or choose another port",
        ) from error
