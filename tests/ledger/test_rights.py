"""Who may do what: grants, the senders that ModelCanaries list, and the file of hashes."""

import asyncio
import hashlib
from collections import Counter
from pathlib import Path

import pytest

from modelcanary_gate.protocol import LabelSender
from modelcanary_ledger import rights
from modelcanary_ledger.auth import Callers, read_token_file
from modelcanary_ledger.errors import Forbidden, SettingsError, Unauthorized
from modelcanary_ledger.model import Standing
from modelcanary_ledger.rights import Call, Caller, Kind, is_baseline_pod


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


@pytest.mark.parametrize(
    ("pod", "canary", "is_one"),
    [
        ("fraud-baseline-7d9c6b5f4-x2x4z", "fraud", True),
        ("fraud-candidate-7d9c6b5f4-x2x4z", "fraud", False),
        ("fraud-baseline", "fraud", False),
        ("fraud-baseline-7d9c6b5f4", "fraud", False),
        # Another canary's, whose name begins with this one's.
        ("fraud-baseline-eu-baseline-7d9c6b5f4-x2x4z", "fraud", False),
        ("fraud-baseline-eu-baseline-7d9c6b5f4-x2x4z", "fraud-baseline-eu", True),
        ("fraud-eu-baseline-7d9c6b5f4-x2x4z", "fraud", False),
        # Kubernetes cuts what it makes pods' names of to 58 characters.
        ("n" * 52 + "-basel" + "x2x4z", "n" * 52, True),
        ("n" * 52 + "-candi" + "x2x4z", "n" * 52, False),
        ("n" * 45 + "-baseline-7d" + "x"[:0] + "9" + "x2x4z", "n" * 45, True),
        ("n" * 48 + "-baseline-" + "x2x4z", "n" * 48, True),
    ],
)
def test_a_pod_of_the_baseline_is_known_by_its_name(pod: str, canary: str, is_one: bool) -> None:
    assert is_baseline_pod(pod, canary) is is_one


def allowed(caller: Caller) -> set[tuple[str, str, str]]:
    """Every call that it may make, of canaries that are there in two namespaces."""
    places = [("a", "fraud"), ("a", "other"), ("b", "fraud")]
    return {(str(call), *place) for call in Call for place in places if caller.may(call, *place)}


def test_what_each_kind_of_caller_may_do() -> None:
    reads = {(call, "a", name) for call in ("feedback", "evidence", "export") for name in ("fraud", "other")}
    assert allowed(rights.account("system:serviceaccount:a:job", "a", "")) == reads
    sidecar = rights.account("system:serviceaccount:a:default", "a", "fraud-baseline-7d9c6b5f4-x2x4z")
    assert allowed(sidecar) == reads | {(call, "a", "fraud") for call in ("pairs", "heartbeat", "references")}
    candidate = rights.account("system:serviceaccount:a:default", "a", "fraud-candidate-7d9c6b5f4-x2x4z")
    assert allowed(candidate) == reads
    every = {(str(call), *place) for call in Call for place in (("a", "fraud"), ("a", "other"), ("b", "fraud"))}
    assert allowed(rights.operator("system:serviceaccount:modelcanary:operator")) == every
    assert allowed(rights.ANYONE) == every


def test_no_refusal_tells_whether_there_is_such_a_canary() -> None:
    caller = rights.account("system:serviceaccount:a:job", "a", "")
    with pytest.raises(Forbidden) as refused:
        caller.require(Call.EVIDENCE, "b", "fraud")
    with pytest.raises(Forbidden) as unknown:
        caller.require(Call.EVIDENCE, "b", "nothing")
    assert refused.value.detail.replace("fraud", "nothing") == unknown.value.detail


def test_senders_are_those_that_are_listed_now() -> None:
    standings: dict[tuple[str, str], Standing] = {}
    callers = Callers({}, None, lambda: standings)

    def whose(token: str) -> Caller:
        return asyncio.run(callers.identify(f"Bearer {token}"))

    with pytest.raises(Unauthorized):
        whose("billing-token")
    one, two = LabelSender("billing", digest("billing-token")), LabelSender("desk", digest("billing-token"))
    standings = {
        ("a", "fraud"): Standing(1, "a", "fraud", senders=(one,)),
        ("b", "churn"): Standing(2, "b", "churn", senders=(two,)),
    }
    found = whose("billing-token")
    assert found.kind is Kind.SENDER
    assert allowed(found) == {("feedback", "a", "fraud")}
    assert found.may(Call.FEEDBACK, "b", "churn")
    assert (found.sends_as("a", "fraud"), found.sends_as("b", "churn")) == ("billing", "desk")
    standings = {("a", "fraud"): Standing(1, "a", "fraud")}
    with pytest.raises(Unauthorized):
        whose("billing-token")


def test_a_token_may_have_several_lines_and_is_no_part_of_another(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"# those outside\n{digest('t')} shop desk\n\n{digest('t')} bank desk\n{digest('all')} * admin\n")
    callers = Callers(read_token_file(path))
    known = asyncio.run(callers.identify("bearer  t "))
    assert known.may(Call.INSTRUCTIONS, "shop", "m")
    assert known.may(Call.PAIRS, "bank", "m")
    assert not known.may(Call.PAIRS, "team", "m")
    for wrong in (None, "", "Bearer", "Bearer ", "Basic t", "Bearer tt", "Bearer T", f"Bearer {digest('t')}"):
        with pytest.raises(Unauthorized):
            asyncio.run(callers.identify(wrong))
    assert callers.reviews == Counter()


@pytest.mark.parametrize("text", ["", "# none\n", "t shop desk\n", f"{'0' * 64} shop\n", f"{'G' * 64} shop desk\n"])
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tokens"
    path.write_text(text)
    with pytest.raises(SettingsError, match="tokens"):
        read_token_file(path)
