"""How a live process is started: the program that answers users, native, and what it is told.

`supervisor` has a process of its own become one. What it does is in `sidecar/live`; what it says while it runs is on
the board and in the scorer's channel. It must not know when a process is started, nor what becomes of it.
"""

import json
import os
import signal
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, NoReturn

from modelcanary_sidecar.board import Board
from modelcanary_sidecar.channel import End
from modelcanary_sidecar.errors import MissingProgram
from modelcanary_sidecar.settings import Settings

#: Put there by the package's build.
PROGRAM: Final = Path(__file__).parent / "bin" / "modelcanary-live"
#: Ignored in a Python process, which is inherited.
_IGNORED = (signal.SIGPIPE, signal.SIGXFSZ)


@dataclass(frozen=True, slots=True)
class Sockets:
    """What a live process is started with."""

    listener: socket.socket  # bound already
    scorer: End  # its end of the channel


def check_installed() -> None:
    """MissingProgram if it is not."""
    if not os.access(PROGRAM, os.X_OK):
        raise MissingProgram(
            f"{PROGRAM} is missing, or cannot be executed: it is built when the package is; "
            "in a clone of the sources run `make install`, which needs Rust's cargo"
        )


def become(settings: Settings, sockets: Sockets, board: Board, worker: int, parent: int) -> NoReturn:
    """This process is a live process from here on, and `parent` the one that watches it.

    Signals to end are blocked until it listens to them: none is lost.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, (signal.SIGTERM, signal.SIGINT))
    for number in _IGNORED:
        signal.signal(number, signal.SIG_DFL)
    scorer = sockets.scorer
    files = {
        "listener": sockets.listener.fileno(),
        "scorer": scorer.messages.fileno(),
        "room": scorer.room,
        "board": board.file,
    }
    for file in files.values():
        os.set_inheritable(file, True)
    upstream = settings.upstream
    told = {
        **files,
        "parent": parent,
        "worker": worker,
        "workers": board.workers,
        "upstream": str(upstream),
        "host": upstream.host,
        "port": upstream.port,
        "limits": asdict(settings.limits),
    }
    os.execv(PROGRAM, [PROGRAM.name, json.dumps(told)])
