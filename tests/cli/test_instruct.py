"""What sidecars are told, and which specifications `run` refuses or takes in part."""

from typing import Any

import pytest

from modelcanary_cli import instruct
from modelcanary_gate.parse import parse_spec
from modelcanary_gate.spec import Spec


def spec(**fields: Any) -> Spec:
    return parse_spec({"model": {"classes": ["no", "yes"]}, **fields}, require_target=False)


def test_mirroring_carries_what_the_sidecar_needs() -> None:
    told = instruct.mirroring(
        spec(
            model={"classes": ["no", "yes"], "candidateClasses": ["yes", "no"], "requestPatch": {"outputs": []}},
            mirror={"percent": "25", "timeout": "3s"},
            labels={"idHeader": "X-Order"},
        ),
        version=7,
        run="r-1",
        candidate="http://b:80",
    )
    assert (told.version, told.run, told.candidate, told.share, told.weight) == (7, "r-1", "http://b:80", 0.25, 0.0)
    assert told.idHeader == "X-Order"
    assert told.model.candidateClasses == ["yes", "no"]
    assert told.model.requestPatch == {"outputs": []}
    assert told.mirror.timeout == 3.0


def test_serving_mirrors_nothing() -> None:
    told = instruct.serving(spec(), version=8)
    assert (told.run, told.candidate, told.share) == ("", None, 0.0)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"labels": {"senders": [{"name": "billing", "tokenSHA256": "0" * 64}]}}, "senders"),
    ],
)
def test_what_would_weaken_the_verdict_is_unsupported(fields: dict[str, Any], named: str) -> None:
    assert named in (instruct.unsupported(spec(**fields)) or "")


def test_what_only_a_cluster_does_is_left_aside_and_said() -> None:
    fields = {"canary": {"steps": [1, 50]}, "promotion": {"mode": "Manual"}, "suspend": True}
    assert instruct.unsupported(spec(**fields)) is None
    assert instruct.ignored(spec(**fields)) == ["canary.steps", "promotion.mode: Manual", "suspend"]
    assert instruct.ignored(spec()) == []
