"""Whom the sidecar takes for the ledger: authorities of a file, read anew; the operator's is the same module."""

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
async def ledger(authority: Authority) -> AsyncIterator[str]:
    """By its name, which is in the certificate; closes every connection, so that each request makes one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.folder / "ledger.crt", authority.folder / "ledger.key")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(ANSWER)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"https://localhost:{server.sockets[0].getsockname()[1]}"


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(story())


@pytest.mark.parametrize("module", [sidecars, operators])
def test_a_replaced_file_is_followed_and_the_one_before_is_not_trusted(
    module: Any, authorities: tuple[Authority, Authority], tmp_path: Path
) -> None:
    first, second = authorities
    clock, path = Clock(), tmp_path / "ca.crt"

    async def story() -> None:
        async with ledger(first) as one, ledger(second) as two:
            trust = module.Trust(one, path, LIMITS, clock)
            async with httpx.AsyncClient(transport=trust, trust_env=False) as client:

                async def trusted() -> list[bool]:
                    found = []
                    for url in (one, two):
                        try:
                            answer = await client.post(url, json={})
                            found.append(answer.status_code == 200)
                        except httpx.ConnectError:
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


def test_an_address_without_tls_needs_no_authorities(tmp_path: Path) -> None:
    """The list that comes with the HTTP client takes megabytes of each sidecar."""
    plain = sidecars.Trust("http://127.0.0.1:1", None, LIMITS)._now
    assert plain is not None
    assert plain._pool._ssl_context.cert_store_stats()["x509"] == 0
