"""`modelcanary-ledger`: one process, one store, one address."""

import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import uvicorn

from modelcanary_ledger.app import LedgerApp
from modelcanary_ledger.auth import Callers, read_token_file
from modelcanary_ledger.client_certificate import Protocol
from modelcanary_ledger.core import Ledger
from modelcanary_ledger.errors import SettingsError
from modelcanary_ledger.quota import Quota
from modelcanary_ledger.serving_tls import Certificate
from modelcanary_ledger.settings import Settings, read_settings
from modelcanary_ledger.sqlite_store import SqliteStore
from modelcanary_ledger.store import Store
from modelcanary_ledger.token_review import TokenReview
from modelcanary_ledger.writer import Writer

EXIT_SETTINGS = 3


def main(arguments: Sequence[str] | None = None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # else a line per token
    try:
        settings = read_settings(sys.argv[1:] if arguments is None else arguments, os.environ)
        file = read_token_file(settings.token_file) if settings.token_file is not None else None
        certificate = Certificate(*settings.tls, settings.client_authority) if settings.tls is not None else None
        listener = _listen(settings)
        ledger = Ledger(_store(settings), time.time())
    except SettingsError as error:
        sys.stderr.write(f"modelcanary-ledger: {error.detail}; {error.remedy}\n")
        sys.exit(EXIT_SETTINGS)
    writer = Writer(ledger, time.time, _room(settings))
    callers = Callers(file, _reviewer(settings), lambda: ledger.standings)
    quota = Quota(settings.sender_rate, time.monotonic)
    app = LedgerApp(ledger, writer, callers, quota).application()
    host, port = listener.getsockname()[:2]
    scheme = "http" if certificate is None else "https"
    sys.stdout.write(f"modelcanary-ledger listens on {scheme}://{f'[{host}]' if ':' in host else host}:{port}\n")
    sys.stdout.flush()
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=65,
        timeout_graceful_shutdown=10,
        backlog=1024,
        ssl_context_factory=None if certificate is None else lambda *_: certificate.context(),
    )
    if settings.client_authority is not None:
        config.http = Protocol
    server = uvicorn.Server(config)
    # uvicorn raises the signal that ended it once more, when all is committed: it ended as it was asked to.
    for ending in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ending, lambda *_: None)
    server.run(sockets=[listener])


def _reviewer(settings: Settings) -> TokenReview | None:
    review = settings.review
    if review is None:
        return None
    from modelcanary_ledger.kube_api import KubeApi  # noqa: PLC0415 - its HTTP client takes as long as all the rest

    return TokenReview(KubeApi(review.url, review.account), review.operators, time.time, followers=review.followers)


def _listen(settings: Settings) -> socket.socket:
    """Bound before anything is written, so that a port in use leaves nothing behind."""
    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host, settings.port))
        listener.listen(1024)
    except OSError as error:
        raise SettingsError(
            f"--listen {settings.host}:{settings.port}: {error.strerror}", remedy="choose another address"
        ) from error
    return listener


def _store(settings: Settings) -> Store:
    if settings.state is not None:
        return SqliteStore(settings.state, time.time(), settings.limits)
    from modelcanary_ledger.postgres.store import PostgresStore  # noqa: PLC0415 - files need no driver

    return PostgresStore(_url(settings.store_url_file or Path()), time.time())


def _url(file: Path) -> str:
    """From a file, so that a password is on no command line and in no list of variables."""
    try:
        return file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"--store-url-file {file}: {getattr(error, 'strerror', None) or 'is no text'}",
            remedy="name a file with one line: postgresql://user:password@host:5432/database",
        ) from error


def _room(settings: Settings) -> Callable[[], bool]:
    """Whether new pairs have room. A server's disk is the server's matter: it says so when it is full."""
    directory = settings.state
    if directory is None:
        return lambda: True

    def has_room() -> bool:
        found = os.statvfs(directory)
        return found.f_bavail * found.f_frsize >= settings.reserve

    return has_room


if __name__ == "__main__":
    main()
