"""The scorer process: asks the candidate, decodes both answers, and sends pairs to the ledger.

`main` starts it with one end of a socket per live process, and restarts it when it dies.
"""

import socket
from collections.abc import Sequence

from modelcanary_sidecar.settings import Settings


def run_scorer(settings: Settings, ends: Sequence[socket.socket]) -> int:
    """Serves until SIGTERM or SIGINT, then sends what is left; the process's exit code."""
    raise NotImplementedError(settings, ends)
