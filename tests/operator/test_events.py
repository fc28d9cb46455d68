"""kopf as it is started: what it would find out for itself where an image gives it nothing to find."""

import threading
from typing import Any

import kopf
import pytest
from kubernetes.aio.client import Configuration
from tests.operator.harness import settings

from modelcanary_operator.events import Watcher


def test_kopf_need_not_ask_for_the_users_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image's user has none, and kopf would end with that."""
    given: dict[str, Any] = {}
    started = threading.Event()

    async def operator(**values: Any) -> None:
        given.update(values)
        started.set()

    monkeypatch.setattr(kopf, "operator", operator)
    found = settings("--identity", "pod-1")
    watcher = Watcher(found, Configuration(), lambda _: None)
    watcher.start()
    assert started.wait(30.0)
    watcher.stop()
    assert given["identity"] == found.identity
    assert found.identity.startswith("pod-1")
