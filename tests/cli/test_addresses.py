"""Addresses and URLs of the command line."""

import socket
from collections.abc import Iterator

import pytest

from modelcanary_cli.addresses import Address, Ports, read_url
from modelcanary_cli.errors import InputError


@pytest.fixture
def ports() -> Iterator[Ports]:
    with Ports() as ports:
        yield ports


def server(address: Address) -> socket.socket:
    """As servers bind."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address.host, address.port))
    listener.listen()
    return listener


def test_what_is_held_is_free_for_a_server_and_for_the_next_one(ports: Ports) -> None:
    address = ports.hold("--listen", "127.0.0.1:0")
    for _ in range(2):
        with server(address):
            socket.create_connection((address.host, address.port), timeout=5).close()


def test_no_port_is_held_twice(ports: Ports) -> None:
    addresses = [ports.hold("--listen", "127.0.0.1:0") for _ in range(50)]
    assert len(set(addresses)) == 50
    with pytest.raises(InputError, match=r"--feedback: port .* is another option's too"):
        ports.hold("--feedback", str(addresses[0]))


def test_a_port_in_use_is_an_error_that_names_the_option(ports: Ports) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(InputError, match=rf"--feedback: cannot listen on 127\.0\.0\.1:{port} \(address already"):
            ports.hold("--feedback", f"127.0.0.1:{port}")


@pytest.mark.parametrize("text", ["8080", "127.0.0.1", ":8080", "127.0.0.1:http", "127.0.0.1:70000", ""])
def test_what_is_no_address_is_refused(ports: Ports, text: str) -> None:
    with pytest.raises(InputError, match=r"--listen: .* is not HOST:PORT; use for example"):
        ports.hold("--listen", text)


def test_clients_reach_what_listens_on_every_address_by_loopback() -> None:
    assert Address("0.0.0.0", 80).url == "http://127.0.0.1:80"
    assert Address("::", 80).url == "http://[::1]:80"


def test_a_url_is_host_and_port() -> None:
    assert read_url("--baseline", "http://model") == "http://model:80"
    assert read_url("--baseline", "http://127.0.0.1:9000/") == "http://127.0.0.1:9000"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("https://model:443", "not an http URL"),
        ("model:80", "not an http URL"),
        ("http://model:99999", "port"),
        ("http://model:80/v2", "more than host and port"),
        ("http://user:secret@model", "more than host and port"),
    ],
)
def test_what_is_no_base_url_is_refused(text: str, problem: str) -> None:
    with pytest.raises(InputError, match=f"--candidate: .*{problem}"):
        read_url("--candidate", text)
