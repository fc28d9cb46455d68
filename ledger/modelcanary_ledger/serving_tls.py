"""The certificate that the ledger shows, and the authorities of those that callers may show.

Called by `main`. Read from files, and read anew when they are replaced: every handshake takes what is there then, and
connections that stand go on with theirs. It must not know HTTP.
"""

import logging
import ssl
import time
from collections.abc import Callable
from pathlib import Path

from modelcanary_ledger.errors import SettingsError

log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0  # at most so often are the files looked at


class Certificate:
    def __init__(
        self,
        certificate: Path,
        key: Path,
        client_authority: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """With a `client_authority` callers may show certificates of theirs, which have to be signed by it.

        Raises SettingsError where the files cannot be used.
        """
        self._certificate, self._key, self._client_authority, self._clock = certificate, key, client_authority, clock
        self._looked = clock()
        try:
            self._stamp = self._stamps()
            self._current = self._read()
        except OSError as error:  # ssl.SSLError is one
            clients = f", --tls-client-ca {client_authority}" if client_authority is not None else ""
            raise SettingsError(
                f"--tls-certificate {certificate}, --tls-key {key}{clients}: {error}",
                remedy="name a certificate (PEM, with those between it and its authority), its key, and authorities",
            ) from error
        self._failed: str | None = None

    def context(self) -> ssl.SSLContext:
        """For the server. It hands each handshake, with a server's name or without, to the certificate of the day."""
        entrance = self._read()

        def choose(connection: ssl.SSLObject | ssl.SSLSocket, _: str | None, __: ssl.SSLContext) -> None:
            connection.context = self.current()

        entrance.sni_callback = choose
        return entrance

    def current(self) -> ssl.SSLContext:
        """As the files have it; while they cannot be used, as they had it before."""
        now = self._clock()
        if now - self._looked >= _LOOK_SECONDS:
            self._looked = now
            self._look()
        return self._current

    def _look(self) -> None:
        try:
            stamp = self._stamps()
            if stamp == self._stamp:
                return
            self._current = self._read()
        except OSError as error:
            if str(error) != self._failed:  # once: it is tried again every second
                log.error("the certificate is not replaced, the one before goes on: %s", error)
            self._failed = str(error)
            return
        self._stamp, self._failed = stamp, None
        log.info("the certificate was replaced")

    def _stamps(self) -> tuple[tuple[int, int], ...]:
        files = (self._certificate, self._key, self._client_authority)
        found = [file.stat() for file in files if file is not None]
        return tuple((file.st_mtime_ns, file.st_ino) for file in found)

    def _read(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self._certificate, self._key)
        if self._client_authority is not None:
            context.verify_mode = ssl.CERT_OPTIONAL  # who has a token shows none
            context.load_verify_locations(self._client_authority)
            # A session that is taken up again would bring a certificate that its authority no longer vouches for.
            context.num_tickets = 0
            context.options |= ssl.OP_NO_TICKET
        return context
