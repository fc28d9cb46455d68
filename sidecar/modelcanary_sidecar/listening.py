"""Ports that are bound before anything is started, so that one in use is said at once. Called by `supervisor`."""

import socket

from modelcanary_sidecar.errors import SettingsError
from modelcanary_sidecar.settings import Address


def bind(option: str, address: Address, *, shared: bool = False) -> socket.socket:
    """A listening socket; SettingsError if the address cannot be had."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((address.host, address.port))
        listener.listen(4096)
    except OSError as error:
        listener.close()
        raise SettingsError(
            f"--{option}: cannot listen on {address}: {error.strerror or error}; choose another address or port"
        ) from error
    listener.setblocking(False)
    return listener


def bound(listener: socket.socket) -> Address:
    """Where it listens, with the port that the system chose."""
    host, port = listener.getsockname()[:2]
    return Address(host, port)
