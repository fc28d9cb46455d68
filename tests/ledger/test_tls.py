"""The ledger's certificate: served, replaced while it runs, and kept where the replacement cannot be used."""

import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from tests.cluster.pki import Authority
from tests.ledger.serving import ledger

from modelcanary_ledger.errors import SettingsError
from modelcanary_ledger.serving_tls import Certificate

_PATIENCE = 20.0


@pytest.fixture
def authorities(tmp_path: Path) -> tuple[Authority, Authority]:
    found = Authority(tmp_path / "one"), Authority(tmp_path / "two")
    for authority in found:
        authority.issue("ledger", "/CN=modelcanary-ledger", "DNS:localhost,IP:127.0.0.1")
    return found


def install(authority: Authority, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for ending in ("crt", "key"):
        shutil.copy(authority.folder / f"ledger.{ending}", folder / f"tls.{ending}")


def options(folder: Path) -> tuple[str, str]:
    return f"--tls-certificate={folder / 'tls.crt'}", f"--tls-key={folder / 'tls.key'}"


def trusts(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(authority.certificate))


def answers(url: str, authority: Authority) -> bool:
    try:
        return httpx.get(f"{url}/healthz", verify=trusts(authority), trust_env=False).status_code == 200
    except httpx.ConnectError:
        return False


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_replaced_certificate_is_served_without_a_restart(
    tmp_path: Path, authorities: tuple[Authority, Authority]
) -> None:
    first, second = authorities
    served, log = tmp_path / "served", tmp_path / "log"
    install(first, served)
    with ledger(tmp_path / "state", *options(served), log=log) as (url, process):
        assert url.startswith("https://")
        assert answers(url, first)
        assert not answers(url, second)
        with httpx.Client(verify=trusts(first), trust_env=False) as standing:
            assert standing.get(f"{url}/healthz").status_code == 200
            install(second, served)
            until(lambda: answers(url, second))
            assert not answers(url, first)
            assert standing.get(f"{url}/healthz").status_code == 200  # its connection goes on
        # By a name and by an address: with and without the client's naming the server.
        assert answers(url.replace("127.0.0.1", "localhost"), second)
        (served / "tls.key").write_text("no key")
        until(lambda: answers(url, second) and "is not replaced" in log.read_text())
        assert process.poll() is None
        plain = url.replace("https", "http")
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"{plain}/healthz", trust_env=False)
    assert log.read_text().count("is not replaced") == 1


def test_trouble_is_tried_again_every_second_and_said_once(
    tmp_path: Path, authorities: tuple[Authority, Authority], caplog: pytest.LogCaptureFixture
) -> None:
    now, served = [0.0], tmp_path / "served"
    install(authorities[0], served)
    certificate = Certificate(served / "tls.crt", served / "tls.key", clock=lambda: now[0])
    before = certificate.current()
    (served / "tls.key").write_text("no key")
    for _ in range(5):
        now[0] += 1.0
        assert certificate.current() is before
    assert caplog.text.count("is not replaced") == 1
    install(authorities[1], served)
    assert certificate.current() is before  # within the second
    now[0] += 1.0
    assert certificate.current() is not before


def test_an_old_protocol_is_refused(tmp_path: Path, authorities: tuple[Authority, Authority]) -> None:
    install(authorities[0], tmp_path / "served")
    served = Certificate(tmp_path / "served" / "tls.crt", tmp_path / "served" / "tls.key")
    assert served.context().minimum_version is ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("broken", ["tls.crt", "tls.key"])
def test_files_that_cannot_be_used_are_named(
    tmp_path: Path, authorities: tuple[Authority, Authority], broken: str
) -> None:
    served = tmp_path / "served"
    install(authorities[0], served)
    (served / broken).write_text("nonsense")
    with pytest.raises(SettingsError, match="--tls-certificate"):
        Certificate(served / "tls.crt", served / "tls.key")
    (served / broken).unlink()
    command = [sys.executable, "-m", "modelcanary_ledger", f"--state={tmp_path / 's'}", "--listen=127.0.0.1:0"]
    ended = subprocess.run([*command, *options(served)], capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode, len(ended.stderr.splitlines())) == (3, 1)
    assert "--tls-certificate" in ended.stderr
    assert not (tmp_path / "s").exists()
