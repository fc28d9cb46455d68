"""How a run is shown: lines, JSON, and a picture that fits a terminal."""

import json
from dataclasses import replace

import pytest
from rich.console import Console

from modelcanary_cli import view as shown
from modelcanary_cli.ledger_client import Counts
from modelcanary_cli.progress import Lines, Machine, picture
from modelcanary_cli.view import Users, View
from modelcanary_gate.decision import Decision, GuardState, GuardStatus, Measures
from modelcanary_gate.spec import GuardType
from modelcanary_gate.vocabulary import Reason, Verdict

MEASURES = Measures(
    judged=1200,
    baseline_loss=0.2,
    candidate_loss=0.19,
    delta=-0.01,
    lower=-0.02,
    upper=float("inf"),
    margin=0.004,
    rollback_evidence=-1.0,
    rollback_threshold=7.6,
    promotion_evidence=2.65,
    promotion_threshold=5.3,
    design_effect=1.0,
    slope=None,
    slope_error=None,
    pairs_to_rollback=None,
    pairs_to_promotion=1500.0,
    seconds_to_verdict=90.0,
    reachable_margin=None,
    guards=(GuardState("errors", GuardType.ERROR_RATE, GuardStatus.VETO, 0.0, 0.01, "max +0.005"),),
)
VIEW = View(
    run="fraud-1",
    name="fraud",
    baseline="http://127.0.0.1:9000",
    candidate="http://127.0.0.1:9001",
    listen="http://127.0.0.1:8080",
    feedback="http://127.0.0.1:8081",
    elapsed=61.0,
    counts=Counts(pairs=2000, labelled=1500, dropped={"rate": 3}),
    maturity=5.0,
    users=Users(2500, {"full": 2}),
    decision=Decision(Verdict.CONTINUE, Reason.EVIDENCE_BELOW_THRESHOLD, "promotion evidence 14 of 200", MEASURES),
)


def test_a_look_for_machines_is_json_without_what_json_cannot_hold() -> None:
    event = json.loads(json.dumps(shown.event("look", VIEW), allow_nan=False))
    assert (event["verdict"], event["reason"]) == ("Continue", "EvidenceBelowThreshold")
    assert event["upper"] is None
    assert event["promotionEvidence"] == pytest.approx(14.15, abs=0.01)
    assert event["promotionThreshold"] == pytest.approx(200.3, abs=0.1)
    assert event["guards"] == {"errors": "veto"}
    assert event["dropped"] == {"rate": 3, "full": 2}


def test_a_line_has_the_numbers_and_the_sentence_once(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines()
    lines.look(VIEW)
    lines.look(replace(VIEW, counts=replace(VIEW.counts, pairs=2001)))
    lines.look(replace(VIEW, decision=replace(VIEW.decision, reason=Reason.GUARD_VETO, message="guard 'errors'")))
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 80
    first, second, third = said.replace("\n  ", " ").splitlines()
    assert "2000 pairs, 1500 labelled, 1200 judged; delta -0.0100" in first
    assert first.endswith("Continue (EvidenceBelowThreshold): promotion evidence 14 of 200")
    assert second.endswith("Continue (EvidenceBelowThreshold)")
    assert third.endswith("Continue (GuardVeto): guard 'errors'")


def test_the_same_is_said_once_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines()
    for elapsed in (0.0, 30.0, 59.0, 61.0, 90.0, 122.0):
        lines.look(replace(VIEW, elapsed=elapsed))
    assert [line.partition(":")[0] for line in capsys.readouterr().out.splitlines() if line[0] != " "] == [
        "0 s",
        "61 s",
        "2.03 min",
    ]


def test_every_event_of_a_machine_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    machine = Machine()
    machine.say("two\nlines")
    machine.warn("beware")
    machine.look(VIEW)
    machine.verdict(VIEW, {"record": "/r.json"})
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["event"] for event in events] == ["message", "warning", "look", "verdict"]
    assert events[-1]["record"] == "/r.json"


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_picture_shows_evidence_against_its_threshold(width: int) -> None:
    console = Console(width=width, record=True, file=None, force_terminal=False)
    with console.capture() as capture:
        console.print(picture(VIEW))
    text = capture.get()
    assert all(len(line) <= width for line in text.splitlines())
    assert "14 of 200" in text
    assert "1,500 labelled pairs to promote" in text
    assert "errors veto" in text
    assert "full 2, rate 3" in text


@pytest.mark.parametrize(("evidence", "share"), [(-3.0, 0.0), (0.0, 0.0), (2.65, 0.5), (5.3, 1.0), (99.0, 1.0)])
def test_bars_are_on_the_scale_on_which_evidence_grows(evidence: float, share: float) -> None:
    assert shown.share_of_threshold(evidence, 5.3) == pytest.approx(share)


def test_what_is_not_known_yet_is_said() -> None:
    nothing = replace(MEASURES, delta=None, lower=None, upper=None, pairs_to_promotion=None)
    assert shown.delta_text(nothing) == "not known yet"
    assert shown.samples_to_go(nothing) == "no verdict in sight yet"
    assert shown.samples_to_go(replace(MEASURES, pairs_to_rollback=0.0)) == "enough to roll back"


def test_a_language_models_numbers_say_their_unit() -> None:
    measures = replace(MEASURES, unit="bits per byte")
    assert " bits per byte, margin" in shown.delta_text(measures)
    assert " nats, margin" in shown.delta_text(MEASURES)
