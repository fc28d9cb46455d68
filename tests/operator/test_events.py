"""kopf as it is started: what it would find out for itself where an image gives it nothing to find."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import kopf
import pytest
from kubernetes.aio.client import Configuration
from tests.listening import listening
from tests.operator.harness import settings

from modelcanary_operator.events import Watcher
from modelcanary_operator.workqueue import Key

#: That kopf makes before it gives a watch up.
_TRIES = 4


def test_kopf_need_not_ask_for_the_users_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image's user has none, and kopf would end with that."""
    given: dict[str, Any] = {}
    started = threading.Event()

    async def operator(**values: Any) -> None:
        given.update(values)
        started.set()

    monkeypatch.setattr(kopf, "operator", operator)
    found = settings("--identity", "pod-1")
    watcher = Watcher(found, Configuration(), lambda *_: None, lambda *_: None, lambda: None)
    watcher.start()
    assert started.wait(30.0)
    watcher.stop()
    assert given["identity"] == found.identity
    assert found.identity.startswith("pod-1")


@contextmanager
def forbidding(again: threading.Event) -> Iterator[str]:
    """An API server that lets nobody see what there is; `again`: it was asked from the beginning once more."""
    begun = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/apis":
                begun.append(self.path)
            if len(begun) > _TRIES:
                again.set()
            body = b'{"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403}'
            self.send_response(403)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    with listening(server) as url:
        yield url


def test_a_watch_that_fails_is_started_again() -> None:
    """It once waited for its own end: the thread that kopf waits for a stop in kept its loop from ending."""
    again = threading.Event()
    with forbidding(again) as url:
        connection = Configuration()
        connection.host = url
        failures: list[str] = []
        watcher = Watcher(
            settings("--kubeconfig", "/none"),
            connection,
            lambda *_: None,
            lambda *_: None,
            lambda: failures.append("counted"),
        )
        watcher.start()
        assert again.wait(60.0)
        watcher.stop(60.0)
        assert "watch" not in {thread.name for thread in threading.enumerate()}
        assert failures, "and it can be alerted on"


def test_only_a_change_may_be_known_already() -> None:
    """What is listed anew may have lost the events of other objects, so it is looked at again in any case."""
    heard: list[tuple[Key, str]] = []
    watcher = Watcher(settings(), Configuration(), lambda *each: heard.append(each), lambda *_: None, lambda: None)
    body = {"metadata": {"namespace": "team", "name": "fraud", "resourceVersion": "7"}, "spec": {}}

    async def story() -> None:
        for type in (None, "ADDED", "MODIFIED", "DELETED"):
            await watcher._on_canary(body=body, type=type)

    asyncio.run(story())
    assert heard == [(Key("team", "fraud"), version) for version in ("", "", "7", "")]
