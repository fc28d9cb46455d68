"""The way to a ledger from elsewhere: its address, a token from a file, and whose certificate to believe.

Called by `export` and `labels`, which people and jobs run beside a cluster. It must not know what is asked.
"""

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import click
import httpx

from modelcanary_cli.errors import InputError
from modelcanary_cli.options import PATH

F = TypeVar("F", bound=Callable[..., Any])


def ledger_options(function: F) -> F:
    for option in (
        click.option("--ledger-ca", type=PATH, metavar="FILE", help="Authorities (PEM) of its certificate."),
        click.option("--token-file", type=PATH, metavar="FILE", help="A bearer token for the ledger."),
        click.option(
            "--ledger", required=True, metavar="URL", help="Such as https://modelcanary-ledger.modelcanary:8071."
        ),
    ):
        function = option(function)
    return function


def connect(url: str, token_file: Path | None, authorities: Path | None, limit: httpx.Timeout) -> httpx.Client:
    """Raises InputError where an option cannot be used; nothing is asked yet."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment:
        raise InputError("--ledger", f"{url!r} is no address", "give one such as http://127.0.0.1:8071")
    auth = None if token_file is None else _FileToken(token_file)
    if auth is not None:
        auth.read()
    verify = True if authorities is None else _context(authorities)
    return httpx.Client(base_url=url, timeout=limit, auth=auth, verify=verify)


class _FileToken(httpx.Auth):
    """Read for each request: a kubelet replaces the token in its file before it expires."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def auth_flow(self, request: httpx.Request) -> Iterator[httpx.Request]:  # type: ignore[override]  # sends nothing back
        request.headers["Authorization"] = f"Bearer {self.read()}"
        yield request

    def read(self) -> str:
        try:
            token = self._path.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or "it is no text"
            raise InputError(self._path, f"cannot be read ({reason})", "give the file of a token") from error
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise InputError(self._path, "holds no token", "give a file with one token and nothing else")
        return token


def _context(authorities: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(authorities))
    except OSError as error:  # of which ssl.SSLError is one
        problem = error.strerror or "not PEM"
        raise InputError(authorities, f"holds no certificates ({problem})", "give the ledger's ca.crt") from error
