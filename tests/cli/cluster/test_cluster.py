"""The cluster's commands against a real API server, in the states that a canary has."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from tests.cli.cluster.conftest import Played
from tests.operator.relay import Relay

from modelcanary_cli.cluster.look import REPLICA_SETS
from modelcanary_gate.plan.phases import Phase
from modelcanary_operator import names
from modelcanary_operator.api import CANARIES, DEPLOYMENTS, EVENTS, PODS, Object

pytestmark = pytest.mark.cluster
IMAGE = "registry.example/team/fraud-model-with-a-long-name@sha256:" + 64 * "a"


def lines(text: str) -> list[str]:
    return text.splitlines()


def fits(text: str) -> bool:
    return max(map(len, lines(text))) <= 80


def test_a_run_from_shadow_to_its_report(played: Played) -> None:
    played.serve(canary={"steps": ["5%", "50%"]})
    said = played.call("status", "fraud")
    assert said.code == 0 and fits(said.out)
    assert "The next template that Deployment fraud gets begins a run." in said.out
    assert "baseline    model:1" in said.out and "target, held" in said.out

    played.ledger.delta = 0.005
    played.push("model:2", Phase.SHADOWING)
    for _ in range(3):
        played.do(played.cluster.look())
    run = played.do(played.cluster.status()).run.id
    said = played.call("status", "fraud")
    assert fits(said.out)
    for words in ("Continue", "12,000 recorded, 12,000 labelled (100%), 12,000 judged", "margin +0.0080", "5%, 50%"):
        assert words in said.out
    assert any("M" in line and "◆" in line and "━" in line for line in lines(said.out))
    assert "errors  ok" in said.out and "fraud-candidate" in said.out and run in said.out

    plain = json.loads(played.call("status", "fraud", "-o", "json").out)
    assert plain["status"]["evidence"]["run"] == run
    assert [item["role"] for item in plain["workloads"]] == ["target", "baseline", "candidate"]
    assert yaml.safe_load(played.call("status", "-o", "yaml").out)[0]["name"] == "fraud"

    played.ledger.delta = 0.2
    played.cluster.restart()
    played.do(played.cluster.phase(Phase.COOLDOWN))
    said = played.call("status", "fraud")
    assert "tried again in 6 h" in said.out and "RollBack (LossRegression)" in said.out
    assert "+0.1997" in played.call("status", "-A").out

    listed = played.call("report", "--from-cluster", "fraud", "--list")
    assert run in listed.out and "LossRegression" in listed.out and "model:2 (template" in listed.out
    drawn = played.call("report", "--from-cluster", "fraud", "--run", run.removeprefix("fraud-"))
    page = Path(drawn.out.strip()).read_text()
    assert drawn.out.startswith("fraud-report-") and run in page and "model:2" in page and "<svg" in page
    other = played.call("report", "--from-cluster", "fraud", "--run", "nope")
    assert other.code == 3 and run in other.err


def test_verbs_are_checked_carried_out_and_refused(played: Played) -> None:
    played.serve()
    for verb in ("promote", "rollback", "pause", "resume", "retry"):
        said = played.call(verb, "fraud")
        assert said.code == 3 and "fraud is Serving" in said.complaint()
    assert "annotations" not in (played.do(played.cluster.resource()) or {})["metadata"]

    played.ledger.silent = True
    played.push("model:2", Phase.SHADOWING)
    run = played.do(played.cluster.status()).run.id
    assert played.call("resume", "fraud").code == 3
    assert run in played.call("pause", "fraud").out
    assert "paused already" in played.call("pause", "fraud").complaint()
    played.do(played.cluster.look())
    assert "asked for   pause" in played.call("status", "fraud").out
    assert played.call("resume", "fraud").code == 0
    assert played.call("pause", "fraud").code == 0, "and again: resume does not stay in the way"
    resource = played.do(played.cluster.resource()) or {}
    assert resource["metadata"]["annotations"] == {names.PAUSE: run}

    late = played.call("rollback", "fraud", "--wait", "--timeout", "1s")
    assert late.code == 2 and "not within 1 s" in late.out
    played.do(played.cluster.phase(Phase.COOLDOWN))
    assert played.call("retry", "fraud").code == 0
    played.do(played.cluster.phase(Phase.SHADOWING))

    patch: Object = {"metadata": {"annotations": {names.PROMOTE: "fraud-other"}}}
    played.do(played.api.merge(CANARIES, "team", "fraud", patch))
    played.do(played.cluster.look())
    events = played.do(played.api.list(EVENTS, "team"))
    [refused] = [item for item in events if item["reason"] == "VerbRefused"]
    assert "fraud-other" in refused["message"]
    resource = played.do(played.cluster.resource()) or {}
    assert names.PROMOTE not in resource["metadata"].get("annotations", {})


def test_a_template_can_be_retried_that_others_were_tried_after(played: Played) -> None:
    played.serve()
    played.ledger.delta = 0.2
    played.push("model:2", Phase.COOLDOWN)
    played.ledger.delta = -0.1
    played.push("model:3", Phase.PROMOTING)
    played.do(played.cluster.settle())
    played.push("model:2", Phase.COOLDOWN)
    status = played.do(played.cluster.status())
    assert status.last.run != status.rejected.run
    said = played.call("retry", "fraud")
    assert said.code == 0 and status.rejected.run in said.out
    played.do(played.cluster.phase(Phase.SHADOWING))


def test_waiting_does_not_take_the_last_deploy_for_this_one(played: Played) -> None:
    played.serve()
    assert played.call("wait", "fraud").code == 0, "the template serves"
    played.do(played.cluster.push("model:2"))
    told = played.do(played.cluster.condition("Promoted"))
    assert told["status"] == "True", "the operator has not looked yet: `kubectl wait` would be through"
    said = played.call("wait", "fraud", "--timeout", "1s")
    assert said.code == 2
    played.ledger.delta = 0.2
    played.do(played.cluster.phase(Phase.ROLLING_BACK))
    assert played.call("wait", "fraud", "--for", "verdict").code == 1
    played.do(played.cluster.phase(Phase.COOLDOWN))
    assert played.call("wait", "fraud").code == 1
    played.ledger.delta = -0.1
    played.push("model:3", Phase.PROMOTING)
    assert played.call("wait", "fraud", "--for", "verdict").code == 0
    assert played.call("wait", "fraud", "--timeout", "1s").code == 2
    played.do(played.cluster.settle())
    assert played.call("wait", "fraud").code == 0
    assert played.call("wait", "fraud", "--for", "rolledback").code == 0
    played.do(played.api.delete(DEPLOYMENTS, "team", "fraud"))
    gone = played.call("wait", "fraud")
    assert gone.code == 3 and "Deployment fraud" in gone.err


def test_what_there_is_not_is_said_with_what_there_is(played: Played) -> None:
    assert "There is no ModelCanary here" in played.call("status").out
    nothing = played.call("status", "fraud")
    assert nothing.code == 3 and "there is none" in nothing.complaint()
    played.serve()
    assert "there are fraud" in played.call("promote", "freud").complaint()
    assert "no decision reports" in played.call("report", "--from-cluster", "fraud").complaint()
    both = played.call("report", "x.json", "--from-cluster", "fraud")
    assert both.code == 3
    assert played.call("wait", "fraud", "--timeout", "soon").code == 3


def test_replica_sets_and_pods_are_shown_with_what_is_wrong(played: Played) -> None:
    played.serve()
    owner = played.do(played.api.get(DEPLOYMENTS, "team", "fraud-baseline"))
    template = {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "m", "image": IMAGE}]}}

    def owned(name: str, kind: str, by: Object) -> Object:
        reference = {
            "apiVersion": "apps/v1",
            "kind": kind,
            "name": by["metadata"]["name"],
            "uid": by["metadata"]["uid"],
        }
        return {"name": name, "ownerReferences": [reference], "labels": {"app": "x"}}

    body = {
        "metadata": owned("fraud-baseline-7d9c8b6f5d", "Deployment", owner),
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "x"}}, "template": template},
    }
    group = played.do(played.api.create(REPLICA_SETS, "team", body))
    for name, state in (("abcde", {"running": {}}), ("fghij", {"waiting": {"reason": "CrashLoopBackOff"}})):
        body = {"metadata": owned(f"fraud-baseline-7d9c8b6f5d-{name}", "ReplicaSet", group), "spec": template["spec"]}
        pod = played.do(played.api.create(PODS, "team", body))
        ready = "running" in state
        told = {"name": "m", "image": IMAGE, "imageID": "", "ready": ready, "restartCount": 4, "state": state}
        pod["status"] = {"phase": "Running", "containerStatuses": [told]}
        played.do(played.api.replace(PODS, "team", pod["metadata"]["name"], pod, "status"))
    said = played.call("status", "fraud")
    assert fits(said.out)
    text = said.out
    assert "   └─ fraud-baseline-7d9c8b6f5d" in text and "0/2" in text
    [fine] = [line for line in lines(text) if "abcde" in line]
    [bad] = [line for line in lines(text) if "fghij" in line]
    assert fine.split()[-4:-1] == ["Running", "1/1", "4"]
    assert bad.split()[-4:-1] == ["CrashLoopBackOff", "0/1", "4"]
    with closing(played.real.plane.client()) as client:
        client.expect("DELETE", "/apis/apps/v1/namespaces/team/replicasets")


def shown(terminal: int, wanted: bytes, seconds: float = 30.0) -> bytes:
    """What a terminal is sent, until it has `wanted` in it."""
    found, deadline = b"", time.monotonic() + seconds
    while wanted not in found:
        assert time.monotonic() < deadline, found.decode(errors="replace")[-3000:]
        try:
            found += os.read(terminal, 65536)
        except OSError as error:
            raise AssertionError(found.decode(errors="replace")[-3000:]) from error
    return found


@pytest.mark.parametrize("colour", [True, False])
def test_it_is_redrawn_survives_the_api_server_and_ends_with_ctrl_c(
    played: Played, tmp_path: Path, colour: bool
) -> None:
    played.serve()
    plane = played.real.plane
    relay = Relay(plane.network, plane.address)
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(plane.kubeconfig.read_text().replace(plane.server, f"https://127.0.0.1:{relay.port}"))
    controller, terminal = os.openpty()
    environment = {
        **os.environ,
        "TERM": "xterm-256color",
        "COLUMNS": "80",
        "LINES": "60",
        "KUBECONFIG": str(kubeconfig),
    }
    environment.pop("NO_COLOR", None)
    if not colour:
        environment["NO_COLOR"] = "1"
    with relay:
        process = subprocess.Popen(
            [sys.executable, "-m", "modelcanary_cli", "status", "fraud", "-n", "team", "--watch"],
            stdout=terminal,
            stderr=subprocess.PIPE,
            env=environment,
        )
        os.close(terminal)
        first = shown(controller, b"begins a run")
        assert (b"\x1b[32m" in first) == colour
        played.ledger.silent = True
        played.push("model:2", Phase.SHADOWING)
        shown(controller, b"Shadowing")
    # The relay is closed: the API server does not answer any more.
    shown(controller, b"does not answer")
    process.send_signal(signal.SIGINT)
    rest = b""
    while True:
        try:
            piece = os.read(controller, 65536)
        except OSError:
            break
        if not piece:
            break
        rest += piece
    os.close(controller)
    assert process.wait(30) == 0
    assert process.stderr is not None
    with process.stderr:
        assert b"Traceback" not in process.stderr.read()
    assert b"fraud-candidate" in rest, "the last picture stays"


def test_without_a_terminal_there_is_a_line_for_each_change(played: Played) -> None:
    played.serve()
    environment = {**os.environ, "KUBECONFIG": str(played.real.kubeconfig)}
    process = subprocess.Popen(
        [sys.executable, "-m", "modelcanary_cli", "status", "-n", "team", "-w"],
        stdout=subprocess.PIPE,
        env=environment,
    )
    assert process.stdout is not None
    assert b"fraud Serving (Serving)" in process.stdout.readline()
    played.ledger.silent = True
    played.push("model:2", Phase.SHADOWING)
    while b"Shadowing" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    process.stdout.close()


def test_a_server_that_is_not_there_is_no_verdict(played: Played, tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:1", played.real.kubeconfig.read_text()))
    said = played.cli("status", "fraud", "--kubeconfig", kubeconfig)
    assert said.code == 69 and "does not answer" in said.err
    assert played.cli("status", "--kubeconfig", tmp_path / "none").code == 3
    assert played.cli("status", "--kubeconfig", kubeconfig, "--context", "none").code == 3
