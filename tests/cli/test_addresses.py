"""Addresses and URLs of the command line."""

import socket

import pytest

from modelcanary_cli.addresses import Address, read_address, read_url
from modelcanary_cli.errors import InputError


def test_port_zero_becomes_a_port_that_can_be_listened_on() -> None:
    address = read_address("--listen", "127.0.0.1:0")
    assert address.port > 0
    with socket.socket() as listener:
        listener.bind((address.host, address.port))


def test_a_port_in_use_is_an_error_that_names_the_option() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(InputError, match=rf"--feedback: cannot listen on 127\.0\.0\.1:{port} \(address already"):
            read_address("--feedback", f"127.0.0.1:{port}")


@pytest.mark.parametrize("text", ["8080", "127.0.0.1", ":8080", "127.0.0.1:http", "127.0.0.1:70000", ""])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"--listen: .* is not HOST:PORT; use for example"):
        read_address("--listen", text)


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
