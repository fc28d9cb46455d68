"""What pods and Deployments say, read into reasons."""

from typing import Any

import pytest

from modelcanary_gate.plan.reasons import Why
from modelcanary_operator import facts

BORN = "2026-01-01T00:00:00Z"
LATER = "2026-01-01T00:05:00Z"


def pod(*, container: Any = None, conditions: Any = (), init: Any = None) -> Any:
    return {
        "metadata": {"name": "fraud-x", "creationTimestamp": BORN},
        "status": {
            "containerStatuses": [{"name": "model", "restartCount": 0, "ready": False, **(container or {})}],
            "initContainerStatuses": [init] if init else [],
            "conditions": list(conditions),
        },
    }


def waiting(reason: str) -> Any:
    return {"state": {"waiting": {"reason": reason, "message": "because"}}}


def condition(kind: str, status: str) -> Any:
    return {"type": kind, "status": status, "message": "0/3 nodes", "lastTransitionTime": LATER}


@pytest.mark.parametrize(
    ("found", "reason", "since"),
    [
        (pod(container=waiting("ImagePullBackOff")), Why.IMAGE_PULL_FAILED, BORN),
        (pod(container=waiting("InvalidImageName")), Why.IMAGE_PULL_FAILED, BORN),
        (pod(container=waiting("CreateContainerConfigError")), Why.CONFIG_MISSING, BORN),
        (pod(init={"name": "fetch", **waiting("ErrImagePull")}), Why.IMAGE_PULL_FAILED, BORN),
        (
            pod(container={"restartCount": 3, "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}),
            Why.CRASH_LOOPING,
            BORN,
        ),
        (pod(conditions=[condition("PodScheduled", "False")]), Why.UNSCHEDULABLE, LATER),
        (pod(conditions=[condition("Ready", "False")]), Why.CANDIDATE_NOT_READY, LATER),
    ],
)
def test_a_pod_that_does_not_come_up_says_why(found: Any, reason: Why, since: str) -> None:
    failure = facts.failure(found)
    assert failure is not None
    assert (failure.reason, failure.since) == (reason, facts.seconds(since))
    assert "fraud-x" in failure.message


@pytest.mark.parametrize(
    "found",
    [
        pod(conditions=[condition("Ready", "True")]),
        pod(container=waiting("ContainerCreating")),
        pod(),
        {**pod(container=waiting("ImagePullBackOff")), "metadata": {"name": "x", "deletionTimestamp": BORN}},
    ],
)
def test_a_pod_that_is_ready_ending_or_young_has_not_failed(found: Any) -> None:
    assert facts.failure(found) is None


def deployment(**status: Any) -> Any:
    return {
        "metadata": {"resourceVersion": "7", "generation": 2, "annotations": {}},
        "spec": {"replicas": 2},
        "status": status,
    }


@pytest.mark.parametrize(
    ("status", "over"),
    [
        ({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2}, True),
        ({"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2}, False),
        ({"observedGeneration": 2, "replicas": 3, "updatedReplicas": 2, "readyReplicas": 3}, False),
        ({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 1, "readyReplicas": 2}, False),
        ({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 1}, False),
    ],
)
def test_a_rollout_is_over_when_every_pod_is_new_and_ready(status: Any, over: bool) -> None:
    assert facts.settled(deployment(**status)) is over


def test_pods_that_cannot_be_created_are_a_failure_of_the_candidate() -> None:
    refused = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota", "lastTransitionTime": LATER}
    found = facts.candidate(deployment(conditions=[refused]), [], drifted=False)
    assert found.failure is not None
    assert (found.failure.reason, found.failure.message) == (Why.UNSCHEDULABLE, "exceeded quota")


def test_the_most_certain_failure_is_told_and_a_crash_even_beside_a_ready_pod() -> None:
    crash = pod(container={"restartCount": 3, "lastState": {"terminated": {"exitCode": 1}}})
    pods = [pod(conditions=[condition("PodScheduled", "False")]), crash]
    assert facts.candidate(deployment(), pods, drifted=False).failure.reason is Why.CRASH_LOOPING  # type: ignore[union-attr]
    assert facts.candidate(deployment(readyReplicas=1), [crash], drifted=False).failure is not None
    slow = pod(conditions=[condition("Ready", "False")])
    assert facts.candidate(deployment(readyReplicas=1), [slow], drifted=False).failure is None


SECRETS = (
    ("loading s3://models failed: AKIAABCDEFGHIJKLMNOP", "AKIA"),
    ("cannot reach https://bob:hunter2@store/x", "hunter2"),
    ("401 for Authorization: Bearer abc.def.ghi", "abc.def"),
    ("DB_PASSWORD=hunter2 is wrong", "hunter2"),
    ('{"api_key": "hunter2", "model": 1}', "hunter2"),
    ("usage: serve --hub-token hunter2", "hunter2"),
    ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.sig", "eyJ"),
)


@pytest.mark.parametrize(("said", "secret"), SECRETS)
def test_a_crash_is_told_with_its_last_words_and_without_secrets(said: str, secret: str) -> None:
    ended = {"exitCode": 1, "reason": "Error", "message": f"x\n{said}\nFileNotFoundError: no model.onnx\x1b[0m\n"}
    failure = facts.failure(pod(container={"restartCount": 3, "lastState": {"terminated": ended}}))
    assert failure is not None
    assert "said last: " in failure.message and "FileNotFoundError: no model.onnx" in failure.message
    assert secret not in failure.message and failure.message.isprintable()


def test_last_words_are_few() -> None:
    ended = {"exitCode": 1, "message": "word " * 2000 + "the end"}
    failure = facts.failure(pod(container={"restartCount": 3, "lastState": {"terminated": ended}}))
    assert failure is not None
    assert failure.message.endswith("the end") and len(failure.message) < 550
