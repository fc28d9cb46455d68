"""Whom the sidecar takes for the ledger: authorities of a file, read anew; the operator goes by the same rules."""

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.cluster.pki import Authority

import modelcanary_operator.trust as operators
import modelcanary_sidecar.trust as sidecars
from modelcanary_gate.protocol import Heartbeat
from modelcanary_sidecar.ledger_client import LedgerClient, LedgerUnavailable
from modelcanary_sidecar.ledger_http import Http

ANSWER = (
    b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: 13\r\n\r\n{"version":7}'
)
LIMITS = httpx.Limits(max_connections=4)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> tuple[Authority, Authority]:
    found = Authority(tmp_path_factory.mktemp("one")), Authority(tmp_path_factory.mktemp("two"))
    for authority in found:
        authority.issue("ledger", "/CN=modelcanary-ledger", "DNS:localhost")
    return found


@asynccontextmanager
async def ledger(authority: Authority, *, keep: bool = False) -> AsyncIterator[str]:
    """By its name, which is in the certificate; `keep` connections, else each request makes one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.folder / "ledger.crt", authority.folder / "ledger.key")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(ANSWER.replace(b"Connection: close\r\n", b"") if keep else ANSWER)
            await writer.drain()
            if keep:
                await reader.read()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"https://localhost:{server.sockets[0].getsockname()[1]}"


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(story())


Asks = Callable[[str], Coroutine[Any, Any, int]]


@asynccontextmanager
async def sidecar(url: str, authority: Path, clock: Clock) -> AsyncIterator[Asks]:
    trust = sidecars.Trust(url, authority, clock)

    async def ask(address: str) -> int:
        return (await Http(address, trust).ask("POST", "/", {}, b"{}")).status

    yield ask


@asynccontextmanager
async def operator(url: str, authority: Path, clock: Clock) -> AsyncIterator[Asks]:
    trust = operators.Trust(url, authority, LIMITS, clock)
    async with httpx.AsyncClient(transport=trust, trust_env=False) as client:

        async def ask(address: str) -> int:
            return (await client.post(address, json={})).status_code

        yield ask


@pytest.mark.parametrize("part", [sidecar, operator])
def test_a_replaced_file_is_followed_and_the_one_before_is_not_trusted(
    part: Any, authorities: tuple[Authority, Authority], tmp_path: Path
) -> None:
    first, second = authorities
    clock, path = Clock(), tmp_path / "ca.crt"

    async def story() -> None:
        async with ledger(first) as one, ledger(second) as two, part(one, path, clock) as ask:

            async def trusted() -> list[bool]:
                found = []
                for url in (one, two):
                    try:
                        found.append(await ask(url) == 200)
                    except (OSError, httpx.ConnectError):
                        found.append(False)
                return found

            assert await trusted() == [False, False]  # the file is not there yet
            shutil.copy(first.certificate, path)
            clock.now += 2
            assert await trusted() == [True, False]
            path.write_bytes(first.certificate.read_bytes() + second.certificate.read_bytes())
            clock.now += 2
            assert await trusted() == [True, True]
            path.write_text("half of it")
            clock.now += 2
            assert await trusted() == [True, True]
            shutil.copy(second.certificate, path)
            clock.now += 2
            assert await trusted() == [False, True]

    run(story)


def test_a_ledger_of_another_authority_or_name_gets_no_token(
    authorities: tuple[Authority, Authority], tmp_path: Path
) -> None:
    first, second = authorities
    (tmp_path / "token").write_text("secret")

    async def story() -> None:
        async with ledger(first) as url:

            async def beat(address: str, authority: Path) -> int:
                async with LedgerClient(address, "team", "fraud", str(tmp_path / "token"), authority) as client:
                    return (await client.send_heartbeat(Heartbeat("s", 0))).version

            with pytest.raises(LedgerUnavailable, match=r"(?i)certificate"):
                await beat(url, second.certificate)
            with pytest.raises(LedgerUnavailable, match=r"(?i)certificate"):
                await beat(url.replace("localhost", "127.0.0.1"), first.certificate)

    run(story)


def test_an_address_without_tls_needs_no_authorities() -> None:
    """They take megabytes of each sidecar."""
    assert sidecars.Trust("http://127.0.0.1:1", None).context() is None
    assert sidecars.Trust("https://127.0.0.1:1", None).context() is not None
    plain = operators.Trust("http://127.0.0.1:1", None, LIMITS)._now
    assert plain is not None
    assert plain._pool._ssl_context.cert_store_stats()["x509"] == 0


def test_a_connection_of_those_who_were_trusted_before_is_not_used_again(
    authorities: tuple[Authority, Authority], tmp_path: Path
) -> None:
    first, second = authorities
    clock, path = Clock(), tmp_path / "ca.crt"
    shutil.copy(first.certificate, path)

    async def story() -> None:
        async with ledger(first, keep=True) as url:
            http = Http(url, sidecars.Trust(url, path, clock))
            assert (await http.ask("POST", "/", {}, b"{}")).status == 200
            assert len(http._idle) == 1
            shutil.copy(second.certificate, path)
            clock.now += 2
            with pytest.raises(ssl.SSLError, match=r"(?i)certificate"):
                await http.ask("POST", "/", {}, b"{}")
            http.close()

    run(story)
