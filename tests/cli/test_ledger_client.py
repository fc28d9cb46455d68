"""The ledger as `run` asks it, against a real one and against one that fails."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from modelcanary_cli import instruct
from modelcanary_cli.addresses import Ports
from modelcanary_cli.ledger_client import Ledger, LedgerError
from modelcanary_cli.specs import load_spec
from modelcanary_gate.contrasts import EvidencePlan
from modelcanary_gate.protocol import PutInstructions

SPEC = """
apiVersion: modelcanary.io/v1alpha1
kind: ModelCanary
metadata: {name: toy}
spec: {model: {classes: ["no", "yes"]}}
"""


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with Ports() as ports:
        address = ports.hold("--listen", "127.0.0.1:0")
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "modelcanary_ledger.main", "--listen", str(address)),
                *("--state", str(tmp_path / "ledger")),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            deadline = time.monotonic() + 20
            while True:
                try:
                    httpx.get(f"{address.url}/readyz")
                    break
                except httpx.ConnectError:
                    assert time.monotonic() < deadline
                    time.sleep(0.02)
            yield address.url
        finally:
            process.terminate()
            process.wait(20)


def put(path: Path, epoch: int) -> PutInstructions:
    (path / "toy.yaml").write_text(SPEC)
    loaded = load_spec(path / "toy.yaml")
    told = instruct.mirroring(loaded.spec, version=epoch, run="toy-1", candidate="http://127.0.0.1:1")
    return PutInstructions(epoch, told, loaded.written)


def test_instructions_are_put_and_evidence_is_read(url: str, tmp_path: Path) -> None:
    ledger = Ledger(url, "default", "toy")
    ledger.put(put(tmp_path, 3))
    evidence = ledger.evidence("toy-1", "0.0")
    assert evidence.counts.pairs == 0
    assert (evidence.loss, evidence.traffic) == ([], [])
    assert evidence.specDigest == EvidencePlan.of(load_spec(tmp_path / "toy.yaml").spec).digest
    assert evidence.startedAt <= evidence.now
    ledger.close()


def test_a_refusal_is_told_with_its_reason(url: str, tmp_path: Path) -> None:
    ledger = Ledger(url, "default", "toy")
    ledger.put(put(tmp_path, 3))
    with pytest.raises(LedgerError, match=r"409.*older"):
        ledger.put(put(tmp_path, 2))
    ledger.close()


def test_a_ledger_that_is_gone_is_an_error_and_no_crash() -> None:
    with Ports() as ports:
        ledger = Ledger(ports.hold("--feedback", "127.0.0.1:0").url, "default", "toy")
        with pytest.raises(LedgerError, match="does not answer"):
            ledger.evidence("toy-1", "0.0")
        ledger.close()


def test_an_answer_that_is_no_evidence_is_an_error() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n<html></html")

        thread = threading.Thread(target=answer)
        thread.start()
        ledger = Ledger(f"http://127.0.0.1:{listener.getsockname()[1]}", "default", "toy")
        with pytest.raises(LedgerError, match="cannot be read"):
            ledger.evidence("toy-1", "0.0")
        ledger.close()
        thread.join(10)
