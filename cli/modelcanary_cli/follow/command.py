"""`modelcanary labels follow`: reads `labels.sources` for as long as it runs; the chart's modelcanary-labels runs it.

Called by `labels`, the group of commands. Knows neither brokers nor files.
"""

import logging
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from prometheus_client import start_http_server

from modelcanary_cli import feedback
from modelcanary_cli.errors import InputError
from modelcanary_cli.follow.following import Follower, Options
from modelcanary_cli.follow.metrics import Collector
from modelcanary_cli.ledger_access import connect, ledger_options
from modelcanary_cli.ledger_client import LedgerError
from modelcanary_cli.options import PATH
from modelcanary_gate import quantities

log = logging.getLogger(__name__)

#: Seconds between two questions to the ledger.
_PERIOD = 2.0
#: Seconds in which what is being sent may be finished.
_GRACE = 20.0


@click.command()
@ledger_options
@click.option("--endpoints", type=PATH, required=True, metavar="FILE", help="Where sources are, by name (YAML).")
@click.option(
    "--state", type=PATH, metavar="DIR", help="Keeps how far files were read; without it, they are read again."
)
@click.option(
    "--look",
    default="30s",
    show_default=True,
    metavar="TIME",
    callback=lambda _, __, value: quantities.duration(value, "--look"),
    help="Between two looks at a folder.",
)
@click.option("--metrics", metavar="HOST:PORT", help="Serve metrics there.")
@click.option("--follower", default=socket.gethostname, metavar="NAME", help="Of this process; default: the host's.")
def follow(
    ledger: str,
    token_file: Path | None,
    ledger_ca: Path | None,
    endpoints: Path,
    state: Path | None,
    look: float,
    metrics: str | None,
    follower: str,
) -> None:
    """Read the sources that ModelCanaries list (labels.sources), until it is ended.

    Which there are is the ledger's to know, where they are stands in --endpoints. Several may run at once: topics are
    shared among them, folders are read by one. What was not taken by the ledger is read again.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    if state is not None and not state.is_dir():
        raise InputError("--state", f"{state} is no folder", "make it, or name another")
    with connect(ledger, token_file, ledger_ca, feedback.LIMIT) as client, _ending() as end:
        following = Follower(client, Options(endpoints, state, look, follower))
        if metrics is not None:
            _serve(metrics, Collector(following.tallies))
        said = ""
        try:
            while not end.is_set():
                try:
                    following.turn()
                    said = ""
                except LedgerError as error:
                    if str(error) != said:
                        log.warning("%s; what is followed goes on", error)
                    said = str(error)
                end.wait(_PERIOD)
        finally:
            following.close(_GRACE)


@contextmanager
def _ending() -> Iterator[threading.Event]:
    """Set when the process is asked to end."""
    end = threading.Event()
    before = [(number, signal.signal(number, lambda *_: end.set())) for number in (signal.SIGTERM, signal.SIGINT)]
    try:
        yield end
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def _serve(address: str, collector: Collector) -> None:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise InputError("--metrics", f"{address!r} is no address", "write HOST:PORT, such as 127.0.0.1:9102")
    try:
        server, _ = start_http_server(int(port), host.strip("[]"), collector.registry)
    except OSError as error:
        raise InputError("--metrics", f"{address}: {error.strerror}", "choose another address") from error
    log.info("metrics are at http://%s:%d/metrics", *server.server_address[:2])
