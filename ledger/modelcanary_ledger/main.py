"""`modelcanary-ledger`: one process, one directory, one address."""

import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence

import uvicorn

from modelcanary_ledger.app import LedgerApp
from modelcanary_ledger.auth import Callers
from modelcanary_ledger.core import Ledger
from modelcanary_ledger.errors import SettingsError
from modelcanary_ledger.settings import Settings, parse
from modelcanary_ledger.writer import Writer

EXIT_SETTINGS = 3


def main(arguments: Sequence[str] | None = None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        settings = parse(sys.argv[1:] if arguments is None else arguments)
        callers = Callers(None) if settings.token_file is None else Callers.from_file(settings.token_file)
        listener = _listen(settings)
        ledger = Ledger(settings.state, time.time(), settings.limits)
    except SettingsError as error:
        sys.stderr.write(f"modelcanary-ledger: {error.detail}; {error.remedy}\n")
        sys.exit(EXIT_SETTINGS)
    writer = Writer(ledger, time.time, lambda: _free(settings) >= settings.reserve)
    app = LedgerApp(ledger, writer, callers, settings.state).application()
    host, port = listener.getsockname()[:2]
    sys.stdout.write(f"modelcanary-ledger listens on http://{f'[{host}]' if ':' in host else host}:{port}\n")
    sys.stdout.flush()
    server = uvicorn.Server(
        uvicorn.Config(
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
        )
    )
    # uvicorn raises the signal that ended it once more, when all is committed: it ended as it was asked to.
    for ending in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ending, lambda *_: None)
    server.run(sockets=[listener])


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


def _free(settings: Settings) -> int:
    found = os.statvfs(settings.state)
    return found.f_bavail * found.f_frsize


if __name__ == "__main__":
    main()
