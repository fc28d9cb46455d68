"""What `run` does when its ledger fails at the worst moment; the whole run is in `test_run`."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.listening import listening

from modelcanary_cli.addresses import Address
from modelcanary_cli.ledger_client import LedgerError
from modelcanary_cli.progress import Lines
from modelcanary_cli.record import read_record
from modelcanary_cli.session import Options, Session
from modelcanary_cli.specs import load_spec
from modelcanary_cli.state import StateFolder
from modelcanary_gate.contrasts import EvidencePlan
from modelcanary_gate.vocabulary import Verdict

SPEC = """
apiVersion: modelcanary.io/v1alpha1
kind: ModelCanary
metadata: {name: toy}
spec: {model: {protocol: oip-v2, classes: ["no", "yes"]}}
"""


class FailingLedger(ThreadingHTTPServer):
    """Answers evidence without blocks, of a source that a test chooses, and refuses instructions."""

    source = "one.1"
    digest = ""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: FailingLedger

    def do_GET(self) -> None:
        server = self.server
        evidence = {"startedAt": 1.0, "now": 60.0, "next": "0.0", "specDigest": server.digest, "source": server.source}
        self._answer(200, json.dumps(evidence).encode())

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(507, b"the disk is full")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def ledger() -> Iterator[FailingLedger]:
    server = FailingLedger()
    with listening(server):
        yield server


@pytest.fixture
def session(ledger: FailingLedger, tmp_path: Path) -> Iterator[Session]:
    path = tmp_path / "canary.yaml"
    path.write_text(SPEC)
    loaded = load_spec(path)
    ledger.digest = EvidencePlan.of(loaded.spec).digest
    here, nobody = Address("127.0.0.1", ledger.server_port), Address("127.0.0.1", 1)
    options = Options(loaded, "http://b", "http://c", nobody, here, nobody, None, keep_serving=False, new_run=False)
    folder = StateFolder(tmp_path / "state")
    made = Session(options, folder, Lines(), threading.Event())
    yield made
    made._ledger.close()
    folder.close()


def test_a_verdict_is_kept_although_mirroring_cannot_be_ended(
    session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    session._take()
    assert session._end() is Verdict.CONTINUE
    assert read_record(session._state.record).verdict is Verdict.CONTINUE
    assert "507" in capsys.readouterr().out


def test_evidence_of_another_ledger_is_not_mixed_with_what_was_folded(session: Session, ledger: FailingLedger) -> None:
    session._take()
    session._take()
    ledger.source = "two.1"
    with pytest.raises(LedgerError, match="begun anew"):
        session._take()
