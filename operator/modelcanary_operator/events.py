"""kopf as the source of events, and nothing more: its handlers put keys into our queue.

Run by `main` in a thread and an event loop of its own, because kopf cancels foreign tasks at its end. Only `on.event`
handlers: all others add finalizers and annotations to every object. An error in a watch ends kopf's loop, so it is
started again; each start lists everything anew, which also finds what was deleted meanwhile.
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import kopf
from kubernetes.aio.client import Configuration

from modelcanary_operator.api import AUTOSCALERS, CANARIES, DEPLOYMENTS, NETWORK_POLICIES, SERVICES, Kind, Object
from modelcanary_operator.index import Index
from modelcanary_operator.settings import Settings
from modelcanary_operator.workqueue import Key

_log = logging.getLogger(__name__)
_WORKERS = 50
_IDLE = 0.1  # with kopf's default of 5 s, 50 workers take 45 s for 450 objects
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0

#: With the version of the ModelCanary's that is news; empty: look, whatever is known.
Enqueue = Callable[[Key, str], None]


class Watcher:
    """All are called in kopf's thread. `changed`: something of a kind, in a namespace; before those whom it concerns
    are enqueued. `failed`: a watch has ended by an error.
    """

    def __init__(
        self,
        settings: Settings,
        connection: Configuration,
        enqueue: Enqueue,
        changed: Callable[[str, str], None],
        failed: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._connection = connection
        self._enqueue = enqueue
        self._changed = changed
        self._failed = failed
        self._index = Index()
        self._stop = threading.Event()
        self._ending: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None  # of the watch that is on
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, seconds: float = 5.0) -> None:
        self._stop.set()
        if self._ending is not None:
            loop, ending = self._ending
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(ending.set)
        self._thread.join(seconds)

    def known(self) -> list[Key]:
        """The ModelCanaries that were heard of."""
        return self._index.known()

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while not self._stop.is_set():
            try:
                asyncio.run(self._watch())
                pause = _FIRST_PAUSE
            except Exception:  # noqa: BLE001 - the one boundary of kopf's loop: whatever ends it, it is started again
                _log.exception("the watch ended; again in %.0f s", pause)
                self._failed()
            for key in self._index.known():  # what was deleted while nobody watched gives no event
                self._enqueue(key, "")
            self._stop.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _watch(self) -> None:
        namespaces = self._settings.namespaces
        # Not `_stop` itself: kopf would wait for it in a thread, and a loop whose watch has failed would wait for that.
        ending = asyncio.Event()
        self._ending = asyncio.get_running_loop(), ending
        if self._stop.is_set():
            return
        await kopf.operator(
            registry=self._registry(),
            settings=_kopf_settings(),
            # Else kopf asks the system for the user's name, and an image's user has none.
            identity=self._settings.identity,  # type: ignore[arg-type] # its type is a str that kopf does not export
            standalone=True,
            clusterwide=not namespaces,
            namespaces=namespaces,
            stop_flag=ending,
        )

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(self._login)
        kopf.on.event(*_of(CANARIES), registry=registry)(self._on_canary)
        for kind in (DEPLOYMENTS, SERVICES, AUTOSCALERS, NETWORK_POLICIES):
            kopf.on.event(*_of(kind), registry=registry)(self._handler(kind))
        return registry

    def _login(self, **values: Any) -> kopf.ConnectionInfo | None:
        """As `kube` does; a pod's token is read anew each time, because it is replaced."""
        if self._settings.kubeconfig is None:
            return kopf.login_with_service_account(**values)
        found = self._connection
        _, _, token = str(found.api_key.get("BearerToken", "")).rpartition(" ")
        return kopf.ConnectionInfo(
            server=found.host,
            ca_path=found.ssl_ca_cert,
            insecure=not found.verify_ssl,
            certificate_path=found.cert_file,
            private_key_path=found.key_file,
            token=token or None,
        )

    async def _on_canary(self, *, body: Any, type: str | None, **_: Any) -> None:
        resource = _plain(body)
        key = self._index.take(resource)
        concerned = [key]
        if type == "DELETED":
            concerned += self._index.sharing(key)
            self._index.forget(key)
        # What is listed anew may have lost others' events: only of a change alone is it enough to know its version.
        version = str(resource["metadata"]["resourceVersion"]) if type == "MODIFIED" else ""
        for each in concerned:
            self._enqueue(each, version)

    def _handler(self, kind: Kind) -> Any:
        async def handle(*, body: Any, **_: Any) -> None:
            found = _plain(body)
            self._changed(kind.plural, found["metadata"]["namespace"])
            for key in self._index.concerned(kind.plural, found):
                self._enqueue(key, "")

        return handle


def _plain(body: Any) -> Object:
    found: Object = {name: body.get(name) or {} for name in ("metadata", "spec")}
    return {"metadata": dict(found["metadata"]), "spec": dict(found["spec"])}


def _of(kind: Kind) -> tuple[str, str, str]:
    group, _, version = kind.api_version.rpartition("/")
    return group, version, kind.plural


def _kopf_settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.scanning.disabled = True  # what it watches is there from the beginning; a look-out would need more rights
    settings.queueing.worker_limit = _WORKERS
    settings.queueing.idle_timeout = _IDLE
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    settings.networking.request_timeout = 30
    settings.networking.error_backoffs = (0.5, 1.0, 2.0)  # after that the watch ends, and is started again
    return settings
