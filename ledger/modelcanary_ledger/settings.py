"""The command line, read once into values; nothing else of the ledger looks at it."""

import argparse
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from modelcanary_ledger.errors import SettingsError
from modelcanary_ledger.pairs import StoreLimits

_SIZE = re.compile(r"(\d+)(Mi|Gi|)")


@dataclass(frozen=True, slots=True)
class Settings:
    host: str
    port: int  # 0: the system chooses; the first line on standard output says which
    state: Path
    token_file: Path | None
    reserve: int  # bytes of the disk that stay free: below, new pairs are refused
    limits: StoreLimits


def parse(arguments: Sequence[str]) -> Settings:
    """Raises SettingsError with the option's name."""
    parser = argparse.ArgumentParser(
        prog="modelcanary-ledger",
        description="Records what both models said, joins what turned out to be true, keeps the evidence.",
    )
    parser.add_argument("--listen", default="127.0.0.1:8071", metavar="HOST:PORT")
    parser.add_argument("--state", required=True, type=Path, metavar="DIR", help="where everything is kept")
    parser.add_argument(
        "--token-file", type=Path, metavar="FILE", help="known callers: <sha256 of token> <namespace or *> <name>"
    )
    parser.add_argument(
        "--insecure-any-address",
        action="store_true",
        help="listen beyond the loopback although nobody has to prove who they are",
    )
    parser.add_argument("--reserve", default="64Mi", metavar="SIZE", help="of the disk, kept free of new pairs")
    parser.add_argument("--segment-pairs", default=StoreLimits().segment_pairs, type=int, metavar="N")
    found = parser.parse_args(arguments)
    host, port = _address(found.listen)
    if found.token_file is None and not found.insecure_any_address and not _is_loopback(host):
        raise SettingsError(
            f"--listen {found.listen}: callers are not known, and others can reach this address",
            remedy="give --token-file, listen on 127.0.0.1, or say --insecure-any-address",
        )
    if found.segment_pairs < 1000:
        raise SettingsError(f"--segment-pairs {found.segment_pairs}", remedy="give 1000 or more")
    limits = StoreLimits(segment_pairs=found.segment_pairs)
    return Settings(host, port, found.state, found.token_file, _bytes(found.reserve), limits)


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
