"""How numbers look to people."""

import math

import pytest

from modelcanary_cli import text


@pytest.mark.parametrize(
    ("factor", "shown"),
    [
        (1.0, "1"),
        (0.0385, "0.0385"),
        (12.34, "12.3"),
        (2000.0, "2,000"),
        (408168.0, "408,168"),
        (3e9, "3.0e9"),
        (1e-9, "<0.001"),
    ],
)
def test_evidence_is_a_factor(factor: float, shown: str) -> None:
    assert text.evidence(math.log(factor)) == shown


def test_evidence_beyond_every_float() -> None:
    assert text.evidence(5000.0) == "3.0e2171"
    assert text.evidence(-math.inf) == "<0.001"


def test_what_is_not_known() -> None:
    assert [text.nats(None), text.plain(None), text.bounds(None, 1.0), text.count(None)] == [
        "-",
        "-",
        "-",
        "not in sight",
    ]
    assert (text.nats(0.01), text.bounds(-1, 0.5), text.count(1234.1)) == ("+0.0100", "[-1.0000, +0.5000]", "1,235")
