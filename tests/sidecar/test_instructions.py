from dataclasses import replace

from modelcanary_gate.protocol import Instructions
from modelcanary_sidecar.instructions import Standing

RUN = Instructions(version=3, run="r1", candidate="http://c", share=0.5, weight=0.05, lease=15.0)


def test_nothing_is_mirrored_and_no_user_moved_before_anything_is_heard() -> None:
    instructions = Standing().instructions
    assert (instructions.run, instructions.share, instructions.weight) == ("", 0.0, 0.0)


def test_the_same_instructions_heard_again_renew_the_lease_and_are_no_change() -> None:
    standing = Standing()
    assert standing.hear(RUN, 100.0) is True
    assert standing.hear(RUN, 110.0) is False
    assert standing.heard == 110.0


def test_an_answer_that_was_overtaken_changes_nothing() -> None:
    standing = Standing()
    standing.hear(replace(RUN, version=4, weight=0.0), 110.0)
    assert standing.hear(RUN, 100.0) is False
    assert (standing.instructions.version, standing.heard) == (4, 110.0)


def test_a_ledger_that_counts_anew_is_followed() -> None:
    standing = Standing()
    standing.hear(RUN, 100.0)
    assert standing.hear(replace(RUN, version=1, share=0.1), 101.0) is True
    assert standing.instructions.share == 0.1
