"""Who calls: bearer tokens known by the hash in a file, by the hash in a ModelCanary, or by the Kubernetes API; or
certificates by a name that a ModelCanary lists.

Called by `app` for every request but the probes. The file has one caller per line: the SHA-256 of the token in
hexadecimal, the namespace it may reach (`*`: all), and a name for the log. No token itself is ever stored or logged.
"""

import hashlib
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from modelcanary_ledger.client_certificate import ClientCertificate, kind_of
from modelcanary_ledger.errors import SettingsError, Unauthorized
from modelcanary_ledger.model import Standing
from modelcanary_ledger.rights import ALL, ANYONE, Call, Caller, Grant, Kind

_HASH = re.compile(r"[0-9a-f]{64}")
_LONGEST = 16_384  # of a token: more is none
_SENDS = frozenset({Call.FEEDBACK})

Standings = Mapping[tuple[str, str], Standing]


class Reviewer(Protocol):
    """Who knows tokens of ServiceAccounts; `token_review` is the real one."""

    async def review(self, token: str) -> Caller:
        """Raises Unauthorized, or NotReviewed where nobody can say."""
        ...

    @property
    def outcomes(self) -> Counter[str]: ...

    async def close(self) -> None: ...


class Callers:
    """All ways to be known. Without any, everyone is: then the ledger listens on the loopback only."""

    def __init__(
        self,
        file: Mapping[bytes, Caller] | None = None,
        reviewer: Reviewer | None = None,
        standings: Callable[[], Standings] = dict,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._file = file or {}
        self._reviewer = reviewer
        self._standings = standings
        self._everyone = file is None and reviewer is None
        self._indexed: Standings = {}
        self._senders: dict[bytes | tuple[str, str], Caller] = {}
        self._clock = clock

    async def identify(self, authorization: str | None, certificate: ClientCertificate | None = None) -> Caller:
        """A token says who calls, and without one a certificate does.

        Raises Unauthorized for an unknown caller, NotReviewed where it cannot be found out now.
        """
        if self._everyone:
            return ANYONE
        if authorization is None and certificate is not None:
            return self._certified(certificate)
        scheme, _, rest = (authorization or "").partition(" ")
        token = rest.strip()
        if scheme.lower() != "bearer" or not token:
            raise Unauthorized("no bearer token", remedy="send Authorization: Bearer <token>")
        if len(token) > _LONGEST or not token.isascii():
            raise Unauthorized("the token is not one", remedy="send the token as it was given")
        # Hashes are looked up, not compared: who does not know the token cannot choose its hash digit by digit.
        digest = hashlib.sha256(token.encode()).digest()
        known = self._file.get(digest) or self._sender(digest)
        if known is not None:
            return known
        if self._reviewer is None:
            raise Unauthorized(
                "the token is not known", remedy="use one whose SHA-256 is in --token-file or in labels.senders"
            )
        return await self._reviewer.review(token)

    @property
    def reviews(self) -> Counter[str]:
        """What became of questions to the Kubernetes API."""
        return Counter() if self._reviewer is None else self._reviewer.outcomes

    async def close(self) -> None:
        if self._reviewer is not None:
            await self._reviewer.close()

    def _certified(self, certificate: ClientCertificate) -> Caller:
        if certificate.until < self._clock():
            raise Unauthorized("the certificate has ended", remedy="connect again with a new one")
        found = [caller for name in sorted(certificate.names) if (caller := self._sender(name)) is not None]
        if not found:
            raise Unauthorized(
                "no name of the certificate is known",
                remedy="use one whose subject alternative name labels.senders lists as certificateSAN, or a token",
            )
        return Caller(Kind.CERTIFICATE, found[0].name, tuple(grant for caller in found for grant in caller.grants))

    def _sender(self, key: bytes | tuple[str, str]) -> Caller | None:
        """Senders as the ModelCanaries list them now, by a token's hash or a name in a certificate."""
        standings = self._standings()
        if standings is not self._indexed:  # it is replaced whenever a standing is
            self._indexed, self._senders = standings, _senders(standings)
        return self._senders.get(key)


def _senders(standings: Standings) -> dict[bytes | tuple[str, str], Caller]:
    """One token, or one certificate, may be listed by several ModelCanaries, under a name in each."""
    grants: defaultdict[bytes | tuple[str, str], list[Grant]] = defaultdict(list)
    names: dict[bytes | tuple[str, str], str] = {}
    for (namespace, name), standing in standings.items():
        for sender in standing.senders:
            key = kind_of(sender.certificateSAN) if sender.certificateSAN else bytes.fromhex(sender.tokenSHA256)
            grants[key].append(Grant(_SENDS, namespace, name, known_as=sender.name))
            names[key] = sender.name
    return {key: Caller(Kind.SENDER, names[key], tuple(found)) for key, found in grants.items()}


def read_token_file(path: Path) -> dict[bytes, Caller]:
    """Callers by the token's hash. Raises SettingsError naming the line."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"--token-file {path}: {error}", remedy="name a readable file") from error
    callers: dict[bytes, Caller] = {}
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 3 or not _HASH.fullmatch(words[0]):
            raise SettingsError(
                f"--token-file {path}, line {number}: not a SHA-256, a namespace and a name",
                remedy="write: <sha256 of the token, hexadecimal> <namespace or *> <name>",
            )
        digest, (namespace, name) = bytes.fromhex(words[0]), words[1:]
        before = callers[digest].grants if digest in callers else ()
        callers[digest] = Caller(Kind.FILE, name, (*before, Grant(ALL, namespace)))
    if not callers:
        raise SettingsError(f"--token-file {path}: it has no caller", remedy="add one, or leave it out")
    return callers
