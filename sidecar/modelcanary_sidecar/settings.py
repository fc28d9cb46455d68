"""What a sidecar is told at its start, read once from arguments and environment.

Every option has an environment variable, `MODELCANARY_` and its name; an argument wins. All else (what to
mirror, where the candidate is, limits) comes with the ledger's instructions while it runs. Called by `main`,
which hands the result to the live processes and to the scorer; nothing is read at import.
"""

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from modelcanary_sidecar.errors import SettingsError

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m)?")
_UNITS = {"ms": 0.001, "s": 1.0, None: 1.0, "m": 60.0}


@dataclass(frozen=True, slots=True)
class Address:
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Limits:
    """Of the live path: how many, how much, how long. Seconds and bytes."""

    clients: int = 10_000  # connections, per live process; beyond: 503
    connections: int = 256  # to the model, per live process
    waiting: int = 1024  # requests for which there is no connection; beyond: 503
    waiting_time: float = 5.0
    connect_time: float = 2.0
    answer_time: float = 60.0  # without a byte from the model
    #: Model servers close idle connections after 2 s (gunicorn) or 5 s (uvicorn): ours must be shorter.
    upstream_idle: float = 1.5
    client_idle: float = 75.0
    head_time: float = 30.0  # for a client to send its request's head
    drain_delay: float = 5.0  # accepting goes on, until nobody sends new connections here
    drain_time: float = 25.0  # for requests in flight


@dataclass(frozen=True, slots=True)
class Settings:
    listen: Address
    upstream: Address
    admin: Address
    ledger: str  # base URL
    namespace: str
    name: str
    identity: str  # of this sidecar, as the ledger sees it: the pod; the scorer adds its epoch
    workers: int = 1
    token_file: str | None = None  # bearer token for the ledger, read anew for each use
    ledger_ca: Path | None = None  # authorities that the ledger's certificate may be of, read anew when replaced
    drain_path: str = ""  # of the admin port's hook; secret, or anyone could drain the pod; empty: there is none
    limits: Limits = Limits()


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message}; `modelcanary-sidecar --help` lists the options")


def _address(option: str, text: str) -> Address:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise SettingsError(f"--{option}: {text!r} is not HOST:PORT; use for example 127.0.0.1:8080")
    return Address(host.strip("[]") or "0.0.0.0", int(port))


def _base_url(option: str, text: str) -> str:
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:  # brackets that hold no address
        usable = False
    if not usable:
        raise SettingsError(f"--{option}: {text!r} is not a URL; use for example http://127.0.0.1:8080")
    return text.rstrip("/")


def http_address(option: str, text: str) -> Address:
    """Of a model's URL, http://HOST:PORT. SettingsError if it is none."""
    parts = urlsplit(_base_url(option, text))
    try:
        port = parts.port or 80
    except ValueError as error:
        raise SettingsError(f"--{option}: the port of {text!r} is not one; use 1 to 65535") from error
    if parts.scheme != "http" or parts.path.strip("/") or parts.query:
        raise SettingsError(
            f"--{option}: {text!r} is not http://HOST:PORT; "
            "TLS is left to the mesh, and paths are forwarded as they are"
        )
    return Address(parts.hostname or "", port)


def _path(option: str, text: str) -> str:
    if text and not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", text):
        raise SettingsError(f"--{option}: {text!r} is not a path; use for example /drain/ and a secret of your own")
    return text


def _seconds(option: str, text: str) -> float:
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise SettingsError(f"--{option}: {text!r} is not a duration; use for example 500ms, 5s or 1m")
    return float(match[1]) * _UNITS[match[2]]


def _count(option: str, text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise SettingsError(f"--{option}: {text!r} is not a count; use a whole number from 1")
    return int(text)


def read_settings(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """The settings, or SettingsError with the option, what is wrong and the remedy.

    `--help` prints the options and raises SystemExit(0).
    """
    defaults = Limits()
    parser = _Parser(
        prog="modelcanary-sidecar",
        description="Answers from the model beside it, and mirrors requests to its candidate.",
    )

    def option(name: str, fallback: str | None, help: str) -> None:
        variable = "MODELCANARY_" + name.upper().replace("-", "_")
        value = environment.get(variable, fallback)
        parser.add_argument(f"--{name}", default=value, required=value is None, help=f"{help} [{variable}]")

    option("listen", "0.0.0.0:8080", "HOST:PORT that users call; port 0: any free one, printed at the start")
    option("upstream", None, "URL of the model that answers users, http://HOST:PORT")
    option("admin", "0.0.0.0:9090", "HOST:PORT of /healthz, /readyz and /metrics")
    option("ledger", None, "URL of the ledger")
    option("namespace", "default", "of the ModelCanary")
    option("name", None, "of the ModelCanary")
    option("identity", environment.get("HOSTNAME", "sidecar"), "of this sidecar: the pod's name")
    option("token-file", "", "file of the bearer token for the ledger")
    option("ledger-ca", "", "file of the authorities (PEM) that the ledger's certificate may be of")
    option("workers", "1", "live processes; more than one from about 30,000 requests/s on")
    option("clients", str(defaults.clients), "connections of clients, per worker; beyond: 503")
    option("connections", str(defaults.connections), "to the model, per worker")
    option("waiting", str(defaults.waiting), "requests waiting for a connection to the model; beyond: 503")
    option("waiting-time", f"{defaults.waiting_time}s", "for a connection to the model; beyond: 503")
    option("answer-time", f"{defaults.answer_time}s", "without a byte from the model; beyond: 504")
    option("upstream-idle", f"{defaults.upstream_idle}s", "for connections to the model; below its own limit")
    option("client-idle", f"{defaults.client_idle}s", "for connections of clients")
    option("drain-path", "", "on the admin port: a hook that is answered when all clients have left; keep it secret")
    option("drain-delay", f"{defaults.drain_delay}s", "after SIGTERM or the hook: new connections are served")
    option("drain-time", f"{defaults.drain_time}s", "for requests in flight after that")
    given = parser.parse_args(arguments)
    return Settings(
        listen=_address("listen", given.listen),
        upstream=http_address("upstream", given.upstream),
        admin=_address("admin", given.admin),
        ledger=_base_url("ledger", given.ledger),
        namespace=given.namespace,
        name=given.name,
        identity=given.identity,
        workers=_count("workers", given.workers),
        token_file=given.token_file or None,
        ledger_ca=Path(given.ledger_ca) if given.ledger_ca else None,
        drain_path=_path("drain-path", given.drain_path),
        limits=Limits(
            clients=_count("clients", given.clients),
            connections=_count("connections", given.connections),
            waiting=_count("waiting", given.waiting),
            waiting_time=_seconds("waiting-time", given.waiting_time),
            answer_time=_seconds("answer-time", given.answer_time),
            upstream_idle=_seconds("upstream-idle", given.upstream_idle),
            client_idle=_seconds("client-idle", given.client_idle),
            drain_delay=_seconds("drain-delay", given.drain_delay),
            drain_time=_seconds("drain-time", given.drain_time),
        ),
    )
