"""What the operator is told at its start, read once from arguments and environment.

Every option has an environment variable, `MODELCANARY_` and its name; an argument wins. Called by `main`.
"""

import argparse
import re
import socket
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from modelcanary_gate.protocol import AUDIENCE
from modelcanary_operator import names
from modelcanary_operator.errors import SettingsError

_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class SidecarSettings:
    """Of the sidecars that the operator puts beside models."""

    image: str
    ledger: str  # the ledger's URL, as pods reach it
    port: int = 18080
    admin_port: int = 18090
    audience: str = AUDIENCE  # of the token that a sidecar shows the ledger
    authority: str = ""  # the ConfigMap of those whose the ledger's certificate may be; empty: no TLS, or known ones
    operator_namespace: str = "modelcanary"  # from which sidecars are probed before users depend on them


@dataclass(frozen=True, slots=True)
class Settings:
    sidecar: SidecarSettings
    ledger: str  # its URL, as the operator reaches it
    token_file: Path | None
    ledger_ca: Path | None
    namespaces: tuple[str, ...]  # empty: all
    own_namespace: str  # where the Lease is
    identity: str
    host: str
    port: int
    kubeconfig: Path | None
    endpoints_file: Path | None = None
    workers: int = 4
    rate: float = 50.0
    burst: int = 100
    resync: float = 300.0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message}; `modelcanary-operator --help` lists the options")


def read_settings(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """The settings, or SettingsError with the option, what is wrong and the remedy."""
    parser = _Parser(prog="modelcanary-operator", description="Gates every deploy of a model in a cluster.")

    def option(name: str, fallback: str | None, help: str) -> None:
        variable = "MODELCANARY_" + name.upper().replace("-", "_")
        value = environment.get(variable, fallback)
        parser.add_argument(f"--{name}", default=value, required=value is None, help=f"{help} [{variable}]")

    option("sidecar-image", None, "image of the sidecar")
    option("ledger", None, "URL of the ledger, such as http://modelcanary-ledger.modelcanary:8071")
    option("sidecar-ledger", "", "the same as pods of models reach it; left out: the same")
    option("token-file", "", "file of the bearer token for the ledger")
    option("ledger-ca", "", "file of the authorities (PEM) that the ledger's certificate may be of")
    option("namespaces", "", "to watch, with commas between; left out: all")
    option("own-namespace", "modelcanary", "in which the operator runs: where its Lease is")
    option("identity", environment.get("HOSTNAME", socket.gethostname()), "of this process: the pod's name")
    option("listen", "0.0.0.0:8070", "HOST:PORT of /livez, /readyz and /metrics")
    option("kubeconfig", "", "file; left out: the pod's own service account")
    option("endpoints-file", "", "YAML file of the endpoints that ModelCanaries may name; left out: there are none")
    option("sidecar-port", "18080", "on which sidecars serve")
    option("sidecar-admin-port", "18090", "of the sidecars' probes, metrics and hooks")
    option("workers", "4", "ModelCanaries worked on at once")
    option("rate", "50", "calls to the API server a second, on average")
    option("resync", "300", "seconds between two looks at a ModelCanary of which nothing is heard")
    given = parser.parse_args(arguments)
    host, port = _address(given.listen)
    ledger = _url("ledger", given.ledger)
    sidecar_ledger = _url("sidecar-ledger", given.sidecar_ledger) if given.sidecar_ledger else ledger
    return Settings(
        sidecar=SidecarSettings(
            image=given.sidecar_image,
            ledger=sidecar_ledger,
            port=_count("sidecar-port", given.sidecar_port, most=65535),
            admin_port=_count("sidecar-admin-port", given.sidecar_admin_port, most=65535),
            authority=names.AUTHORITY if given.ledger_ca and sidecar_ledger.startswith("https://") else "",
            operator_namespace=_namespace("own-namespace", given.own_namespace),
        ),
        ledger=ledger,
        token_file=Path(given.token_file) if given.token_file else None,
        ledger_ca=Path(given.ledger_ca) if given.ledger_ca else None,
        namespaces=tuple(_namespace("namespaces", name) for name in given.namespaces.split(",") if name),
        own_namespace=_namespace("own-namespace", given.own_namespace),
        # Another process of the same pod is another candidate for the lease.
        identity=f"{given.identity}_{uuid.uuid4().hex[:8]}",
        host=host,
        port=port,
        kubeconfig=Path(given.kubeconfig) if given.kubeconfig else None,
        endpoints_file=Path(given.endpoints_file) if given.endpoints_file else None,
        workers=_count("workers", given.workers),
        rate=float(_count("rate", given.rate)),
        burst=2 * _count("rate", given.rate),
        resync=float(_count("resync", given.resync)),
    )


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise SettingsError(f"--listen: {text!r} is not HOST:PORT; use for example 0.0.0.0:8070")
    return host.strip("[]") or "0.0.0.0", int(port)


def _url(option: str, text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsError(f"--{option}: {text!r} is not a URL; use for example http://modelcanary-ledger:8071")
    return text.rstrip("/")


def _namespace(option: str, text: str) -> str:
    if not _NAMESPACE.fullmatch(text.strip()):
        raise SettingsError(f"--{option}: {text!r} is no name of a namespace; use for example team-a,team-b")
    return text.strip()


def _count(option: str, text: str, most: int = 1_000_000) -> int:
    if not text.isdigit() or not 1 <= int(text) <= most:
        raise SettingsError(f"--{option}: {text!r} is not a whole number from 1 to {most}")
    return int(text)
