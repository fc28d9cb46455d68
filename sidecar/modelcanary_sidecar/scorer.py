"""The scorer process: asks the candidate, decodes both answers, and sends pairs to the ledger.

`supervisor` starts it with one end of a socket per live process, and restarts it when it dies. It runs at the lowest
priority, because it shares its machine with the model that answers users. What it does is in `mirror`.
"""

import asyncio
import logging
import os
import secrets
import signal
from collections.abc import Sequence

import uvloop

from modelcanary_gate.protocol import Instructions
from modelcanary_sidecar import collector
from modelcanary_sidecar.board import Board
from modelcanary_sidecar.channel import End, ScorerEnd
from modelcanary_sidecar.instructions import Standing
from modelcanary_sidecar.ledger_client import LedgerClient
from modelcanary_sidecar.mirror import Mirror
from modelcanary_sidecar.sender import Sender
from modelcanary_sidecar.settings import Settings
from modelcanary_sidecar.tally import Tally

logger = logging.getLogger(__name__)


def run_scorer(settings: Settings, ends: Sequence[End], board: Board) -> int:
    """The process: serves until SIGTERM, then sends what is left. Returns its exit code.

    SIGINT is left aside: a terminal sends it to every process of the group, and the live path's last requests
    are still to come. If the process that started this one is gone, this one goes too.
    """
    _step_back()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, [ScorerEnd(end) for end in ends], board))
    return 0


async def _serve(settings: Settings, ends: Sequence[ScorerEnd], board: Board) -> None:
    identity = f"{settings.identity}-{secrets.token_hex(4)}"
    standing, tally = Standing(), Tally()
    async with LedgerClient(
        settings.ledger, settings.namespace, settings.name, settings.token_file, settings.ledger_ca
    ) as client:
        mirror: Mirror

        def hear(instructions: Instructions, asked: float) -> None:
            mirror.hear(instructions, asked)

        mirror = Mirror(Sender(client, identity, hear), ends, standing, tally, settings.upstream, board.report)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, mirror.stop)
        loop.add_signal_handler(signal.SIGINT, lambda: None)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))  # as `Children.start` left them
        collector.settle()
        await mirror.run()


def _step_back() -> None:
    os.nice(19)
    try:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    except (OSError, AttributeError) as error:  # forbidden in some sandboxes; absent outside Linux
        logger.debug("no batch scheduling: %s", error)
