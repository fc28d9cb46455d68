"""Who calls, and what they may reach: bearer tokens from a file of hashes.

Called by `app` for every request but the probes. The file has one caller per line: the SHA-256 of the token in
hexadecimal, the namespace it may reach (`*`: all), and a name for the log. No token itself is ever stored.
"""

import hashlib
import hmac
import re
from dataclasses import dataclass
from pathlib import Path

from modelcanary_ledger.errors import Forbidden, SettingsError, Unauthorized

_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Caller:
    digest: bytes
    namespace: str  # "*": all
    name: str


class Callers:
    """Without a file, everyone is known: then the ledger listens on the loopback only."""

    def __init__(self, callers: tuple[Caller, ...] | None) -> None:
        self._callers = callers

    @classmethod
    def from_file(cls, path: Path) -> "Callers":
        """Raises SettingsError naming the line."""
        try:
            lines = path.read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"--token-file {path}: {error}", remedy="name a readable file") from error
        callers = []
        for number, line in enumerate(lines, start=1):
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            if len(words) != 3 or not _HASH.fullmatch(words[0]):
                raise SettingsError(
                    f"--token-file {path}, line {number}: not a SHA-256, a namespace and a name",
                    remedy="write: <sha256 of the token, hexadecimal> <namespace or *> <name>",
                )
            callers.append(Caller(bytes.fromhex(words[0]), words[1], words[2]))
        if not callers:
            raise SettingsError(f"--token-file {path}: it has no caller", remedy="add one, or leave it out")
        return cls(tuple(callers))

    def require(self, authorization: str | None, namespace: str | None) -> None:
        """Raises Unauthorized for an unknown caller, Forbidden for another's namespace.

        `namespace` None is what concerns all of them.
        """
        if self._callers is None:
            return
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthorized("no bearer token", remedy="send Authorization: Bearer <token>")
        digest = hashlib.sha256(token.strip().encode()).digest()
        known = [caller for caller in self._callers if hmac.compare_digest(caller.digest, digest)]
        if not known:
            raise Unauthorized("the token is not known", remedy="ask for one of the ledger's token file")
        if not any(caller.namespace in ("*", namespace) for caller in known):
            raise Forbidden(
                f"{known[0].name} may not reach {namespace or 'all namespaces'}",
                field="namespace",
                remedy="use a token of that namespace",
            )
