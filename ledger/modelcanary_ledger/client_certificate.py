"""The certificate that a caller has shown: taken from the connection, told to the application with each request.

uvicorn knows nothing of it, so `Protocol` is its HTTP protocol with one thing more; `main` chooses it where clients may
show certificates. OpenSSL has verified them by then: against `--tls-client-ca`, and that they are meant for clients. It
must not know who may do what.
"""

import asyncio
import ssl
from dataclasses import dataclass

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: Where a request's state has it.
STATE = "certificate"
#: Kinds of names in a certificate, as OpenSSL calls them, that senders are listed by.
_KINDS = frozenset({"DNS", "URI", "email"})


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """`names`: its subject alternative names, as (kind, name); `until`: when it ends, seconds since the epoch.

    A connection may live longer than its certificate, which is why the end is looked at with each request.
    """

    names: frozenset[tuple[str, str]]
    until: float


def kind_of(name: str) -> tuple[str, str]:
    """A name as (kind, name): a URI has a scheme, an address an @, all else is a host, whose case does not matter."""
    if "://" in name:
        return "URI", name
    return ("email", name) if "@" in name else ("DNS", name.lower())


class Protocol(HttpToolsProtocol):
    _certificate: ClientCertificate | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._certificate = _shown(transport.get_extra_info("ssl_object"))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"][STATE] = self._certificate


def _shown(connection: ssl.SSLObject | None) -> ClientCertificate | None:
    """None where there is none, or it was not verified."""
    found = connection.getpeercert() if connection is not None else None
    if not found:
        return None
    texts = [(str(name[0]), str(name[1])) for name in found.get("subjectAltName", ()) if name[0] in _KINDS]
    return ClientCertificate(
        frozenset((kind, text.lower() if kind == "DNS" else text) for kind, text in texts),
        ssl.cert_time_to_seconds(str(found["notAfter"])),
    )
