"""What the ledger is told at its start, read once from arguments and environment; nothing else of it looks there.

Every option has an environment variable, `MODELCANARY_` and its name; an argument wins. Called by `main`.
"""

import argparse
import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from modelcanary_ledger.errors import SettingsError
from modelcanary_ledger.pairs import StoreLimits

_SIZE = re.compile(r"(\d+)(Mi|Gi|)")
_ACCOUNT = re.compile(r"system:serviceaccount:[a-z0-9.-]+:[a-z0-9.-]+")
_IN_POD = "/var/run/secrets/kubernetes.io/serviceaccount"


@dataclass(frozen=True, slots=True)
class ReviewSettings:
    """Where the Kubernetes API is asked whose a token is."""

    url: str
    account: Path  # the folder with `token` and `ca.crt`
    operators: frozenset[str]  # accounts that may do everything
    followers: frozenset[str]  # accounts that read `labels.sources` and send what is in them


@dataclass(frozen=True, slots=True)
class Settings:
    host: str
    port: int  # 0: the system chooses; the first line on standard output says which
    state: Path | None  # the directory of files that everything is kept in, or
    store_url_file: Path | None  # the file that says which PostgreSQL it is kept in
    token_file: Path | None
    review: ReviewSettings | None
    tls: tuple[Path, Path] | None  # certificate and key
    client_authority: Path | None  # of certificates that label senders may show
    sender_rate: float  # labels a second that each sender may post, on average; 0: no limit
    reserve: int  # bytes of the disk that stay free: below, new pairs are refused
    limits: StoreLimits


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SettingsError(message, remedy="`modelcanary-ledger --help` lists the options")


def read_settings(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Raises SettingsError with the option's name."""
    parser = _Parser(
        prog="modelcanary-ledger",
        description="Records what both models said, joins what turned out to be true, keeps the evidence.",
    )

    def option(name: str, fallback: str | None, metavar: str, help: str) -> None:
        variable = "MODELCANARY_" + name.upper().replace("-", "_")
        value = environment.get(variable, fallback)
        parser.add_argument(
            f"--{name}", default=value, required=value is None, metavar=metavar, help=f"{help} [{variable}]"
        )

    def switch(name: str, help: str) -> None:
        variable = "MODELCANARY_" + name.upper().replace("-", "_")
        given = environment.get(variable, "")
        parser.add_argument(f"--{name}", action="store_true", default=given == "true", help=f"{help} [{variable}=true]")

    option("listen", "127.0.0.1:8071", "HOST:PORT", "where it answers")
    option("state", "", "DIR", "where everything is kept, in files")
    option("store-url-file", "", "FILE", "keep everything in PostgreSQL instead; in the file: postgresql://…")
    option("token-file", "", "FILE", "known callers: <sha256 of token> <namespace or *> <name>")
    switch("token-review", "know ServiceAccounts by their tokens: the Kubernetes API is asked")
    for name, help in (
        ("operator-account", "may do everything, others reach their own namespace"),
        ("follower-account", "is told every labels.sources, and sends the labels"),
    ):
        parser.add_argument(
            f"--{name}",
            action="append",
            metavar="system:serviceaccount:NAMESPACE:NAME",
            help=f"{help}; repeat it, or use commas [MODELCANARY_{name.upper().replace('-', '_')}]",
        )
    option("kubernetes-api", _in_cluster(environment), "URL", "for --token-review; left out: the pod's own cluster")
    option("kubernetes-account", _IN_POD, "DIR", "for --token-review: the files token and ca.crt")
    option("tls-certificate", "", "FILE", "serve TLS by this certificate (PEM); replaced files are read anew")
    option("tls-key", "", "FILE", "its key")
    option("tls-client-ca", "", "FILE", "authorities (PEM) of certificates by which label senders may be known")
    option("sender-rate", "5000", "N", "labels a second that each sender may post, on average; 0: no limit")
    switch("insecure-any-address", "listen beyond the loopback although nobody has to prove who they are")
    option("reserve", "64Mi", "SIZE", "of the disk, kept free of new pairs")
    option("segment-pairs", str(StoreLimits().segment_pairs), "N", "pairs in one file")
    found = parser.parse_args(arguments)
    host, port = _address(found.listen)
    review = _review(found, environment) if found.token_review else None
    if not (found.token_file or review or found.insecure_any_address) and not _is_loopback(host):
        raise SettingsError(
            f"--listen {found.listen}: callers are not known, and others can reach this address",
            remedy="give --token-review or --token-file, listen on 127.0.0.1, or say --insecure-any-address",
        )
    if bool(found.state) == bool(found.store_url_file):
        raise SettingsError(
            "--state and --store-url-file: one of them says where everything is kept",
            remedy="give --state DIR for one ledger, --store-url-file FILE for several over one PostgreSQL",
        )
    if bool(found.tls_certificate) != bool(found.tls_key):
        raise SettingsError("--tls-certificate and --tls-key go together", remedy="give both, or none")
    if found.tls_client_ca and not found.tls_certificate:
        raise SettingsError("--tls-client-ca without --tls-certificate", remedy="give --tls-certificate and --tls-key")
    return Settings(
        host=host,
        port=port,
        state=Path(found.state) if found.state else None,
        store_url_file=Path(found.store_url_file) if found.store_url_file else None,
        token_file=Path(found.token_file) if found.token_file else None,
        review=review,
        tls=(Path(found.tls_certificate), Path(found.tls_key)) if found.tls_certificate else None,
        client_authority=Path(found.tls_client_ca) if found.tls_client_ca else None,
        sender_rate=float(_whole("sender-rate", found.sender_rate, least=0)),
        reserve=_bytes(found.reserve),
        limits=StoreLimits(segment_pairs=_whole("segment-pairs", found.segment_pairs, least=1000)),
    )


def _review(found: argparse.Namespace, environment: Mapping[str, str]) -> ReviewSettings:
    operators = _accounts("operator-account", found.operator_account, environment)
    followers = _accounts("follower-account", found.follower_account, environment)
    if not operators:
        raise SettingsError(
            "--operator-account is missing: nobody could write instructions",
            remedy="give system:serviceaccount:NAMESPACE:NAME of the operator",
        )
    if not found.kubernetes_api.startswith("https://"):
        raise SettingsError(
            f"--kubernetes-api {found.kubernetes_api or 'is missing, and this is no pod'}",
            remedy="give the API server's https:// URL",
        )
    return ReviewSettings(found.kubernetes_api.rstrip("/"), Path(found.kubernetes_account), operators, followers)


def _accounts(option: str, given: list[str] | None, environment: Mapping[str, str]) -> frozenset[str]:
    texts = given or [environment.get(f"MODELCANARY_{option.upper().replace('-', '_')}", "")]
    accounts = [name.strip() for text in texts for name in text.split(",") if name.strip()]
    wrong = next((name for name in accounts if not _ACCOUNT.fullmatch(name)), None)
    if wrong is not None:
        raise SettingsError(
            f"--{option} {wrong}: no ServiceAccount", remedy="write system:serviceaccount:NAMESPACE:NAME"
        )
    return frozenset(accounts)


def _in_cluster(environment: Mapping[str, str]) -> str:
    host, port = environment.get("KUBERNETES_SERVICE_HOST", ""), environment.get("KUBERNETES_SERVICE_PORT", "443")
    return f"https://{f'[{host}]' if ':' in host else host}:{port}" if host else ""


def _whole(option: str, text: str, *, least: int) -> int:
    if not text.isascii() or not text.isdigit() or not least <= int(text) <= 1 << 31:
        raise SettingsError(f"--{option} {text}", remedy=f"give a whole number from {least}")
    return int(text)


def _address(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise SettingsError(f"--listen {listen}", remedy="write HOST:PORT, such as 127.0.0.1:8071")
    return host.strip("[]"), int(port)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _bytes(text: str) -> int:
    match = _SIZE.fullmatch(text)
    if not match:
        raise SettingsError(f"--reserve {text}", remedy="write a size such as 64Mi")
    return int(match[1]) << {"": 0, "Mi": 20, "Gi": 30}[match[2]]
