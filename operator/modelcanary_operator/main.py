"""`modelcanary-operator`: waits for its lease, then watches and works until it is told to end or loses it.

It ends, rather than going on without a lease, when the lease is lost: what runs it starts it again.
"""

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable

from kubernetes.aio.client import Configuration

from modelcanary_operator.authority import read_authorities
from modelcanary_operator.bucket import Bucket
from modelcanary_operator.caller import Caller
from modelcanary_operator.clock import SteadyClock
from modelcanary_operator.desk import Desk
from modelcanary_operator.directory import Directory
from modelcanary_operator.errors import ApiError, Conflict, LeaseLost, OperatorError, SettingsError
from modelcanary_operator.events import Watcher
from modelcanary_operator.health import Health
from modelcanary_operator.kube import Kube, configuration
from modelcanary_operator.lease import Lease
from modelcanary_operator.ledger_client import HttpLedger
from modelcanary_operator.metrics import Metrics
from modelcanary_operator.observe import connects
from modelcanary_operator.pool import Pool
from modelcanary_operator.post import Outside
from modelcanary_operator.recent import Recent
from modelcanary_operator.reconcile import Reconciler, Tools
from modelcanary_operator.recorder import Recorder
from modelcanary_operator.settings import Settings, read_settings
from modelcanary_operator.workqueue import Key, WorkQueue

_log = logging.getLogger(__name__)
_BAD_SETTINGS, _LOST = 3, 4
#: A look takes at most a few calls of 10 s each; without one that ended for so long, something hangs.
_STUCK = 300.0


class Ended(Exception):
    """A signal came."""


async def work(queue: WorkQueue, metrics: Metrics, reconcile: Callable[[Key], Awaitable[float | None]]) -> None:
    """One worker: the logged boundary of everything that a look may raise."""
    while True:
        key = await queue.get()
        metrics.queue.set(len(queue))
        try:
            with metrics.seconds.time():
                after = await reconcile(key)
        except Conflict as error:
            # Another has written: look again, soon, and ever later if it goes on.
            _log.info("%s/%s: %s", key.namespace, key.name, error)
            queue.failed(key)
            metrics.reconciles.labels("conflict").inc()
        except (OperatorError, ApiError) as error:
            _log.warning("%s/%s: %s; again in %.1f s", key.namespace, key.name, error, queue.failed(key))
            metrics.reconciles.labels("failed").inc()
        except Exception:  # noqa: BLE001 - one resource's trouble is not the others'
            _log.exception("%s/%s: again in %.1f s", key.namespace, key.name, queue.failed(key))
            metrics.reconciles.labels("broken").inc()
        else:
            queue.done(key, after)
            metrics.reconciles.labels("ok").inc()
        metrics.finished()


def heard(queue: WorkQueue, reconciler: Reconciler, key: Key, version: str) -> None:
    """What the watch says, as `events.Enqueue` has it."""
    # Else each status that a look writes would bring another look.
    if not version or not reconciler.has_seen(key, version):
        queue.add(key)


class Operator:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._metrics = Metrics()
        self._directory = Directory(settings.endpoints_file, self._metrics)
        self._queue = WorkQueue()
        self._lease: Lease | None = None

    async def run(self) -> None:
        """Until a signal: then it returns. Raises LeaseLost, SettingsError."""
        settings = self._settings
        loop = asyncio.get_running_loop()
        stopping = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        bucket = Bucket(settings.rate, settings.burst)
        found = await configuration(settings.kubeconfig)
        async with (
            Kube(found, bucket) as api,
            # The lease's calls wait in no line.
            Kube(found, Bucket(10.0, 10)) as apart,
            HttpLedger(settings.ledger, settings.token_file, settings.ledger_ca) as ledger,
            Caller() as caller,
        ):
            health = Health(self._why_not_live, self._why_not_ready, self._metrics.text)
            server = await asyncio.start_server(health.answer, settings.host, settings.port)
            _log.info("listening on %s", server.sockets[0].getsockname()[:2])
            self._lease = lease = Lease(apart, settings.own_namespace, settings.identity, wall=apart.server_time)
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(_until(stopping))
                    tasks.create_task(self._lead(lease, api, apart, ledger, caller, found))
            except* Ended:
                pass
            finally:
                server.close()
                await lease.release()

    async def _lead(
        self, lease: Lease, api: Kube, apart: Kube, ledger: HttpLedger, caller: Caller, connection: Configuration
    ) -> None:
        epoch = await lease.acquire()
        self._metrics.leading.set(1)
        self._metrics.finished()
        settings, loop = self._settings, asyncio.get_running_loop()
        recorder, pool, recent = Recorder(api, settings.identity), Pool(self._metrics), Recent(api)
        outside = Outside(
            directory=self._directory,
            caller=caller,
            pool=pool,
            metrics=self._metrics,
            recorder=recorder,
            wake=self._queue.add,
            wall=time.time,
            monotonic=time.monotonic,
        )
        tools = Tools(
            api=recent,
            ledger=ledger,
            settings=settings,
            epoch=epoch,
            recorder=recorder,
            metrics=self._metrics,
            probe=connects,
            desk=Desk(outside),
            wall=SteadyClock(apart.server_time()).now,
            monotonic=time.monotonic,
        )
        reconciler = Reconciler(tools)

        def enqueue(key: Key, version: str) -> None:
            loop.call_soon_threadsafe(heard, self._queue, reconciler, key, version)

        def changed(plural: str, namespace: str) -> None:
            loop.call_soon_threadsafe(recent.forget, plural, namespace)

        watcher = Watcher(settings, connection, enqueue, changed, self._metrics.watch_failures.inc)

        def look_again() -> None:
            for key in watcher.known():
                self._queue.add(key)

        watcher.start()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(lease.hold())
                tasks.create_task(pool.run())
                tasks.create_task(self._directory.watch(look_again))
                for _ in range(settings.workers):
                    tasks.create_task(work(self._queue, self._metrics, reconciler.reconcile))
        finally:
            self._metrics.leading.set(0)
            await asyncio.to_thread(watcher.stop)

    def _why_not_live(self) -> str | None:
        """Waiting for the lease is alive; leading with work and without a look that ends is not."""
        if self._lease is None or not self._lease.epoch or not len(self._queue):
            return None
        age = self._metrics.since_finished()
        return None if age < _STUCK else f"no look has ended for {age:.0f} s"

    def _why_not_ready(self) -> str | None:
        return None if self._lease is not None else "it has not started"


async def _until(stopping: asyncio.Event) -> None:
    await stopping.wait()
    raise Ended


def _innermost(group: BaseException) -> BaseException:
    """What a task has raised, without the groups that tasks wrap around it."""
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group


def main() -> None:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s modelcanary-operator: %(message)s")
    for talkative in ("httpx", "httpcore", "kopf"):
        logging.getLogger(talkative).setLevel(logging.WARNING)
    try:
        settings = read_settings(sys.argv[1:], os.environ)
        if settings.ledger_ca is not None:
            read_authorities(settings.ledger_ca)  # what cannot be used is said at once
        asyncio.run(Operator(settings).run())
    except SettingsError as error:
        print(f"modelcanary-operator: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(_BAD_SETTINGS)
    except BaseExceptionGroup as group:
        lost = group.subgroup(LeaseLost)
        if lost is None:
            raise
        _log.error("%s; this process ends", _innermost(lost))
        sys.exit(_LOST)


if __name__ == "__main__":
    main()
