"""The entry of a process that `supervise` starts: runs a part's `main` and ends when its starter does.

`python -m modelcanary_cli.child STARTER LOCK PACKAGE ARGUMENT ...`: STARTER is the process id of what started it;
LOCK is an open file that stays open until this process and its children end. Must not know what the part does.
"""

import ctypes
import os
import signal
import sys
from importlib import import_module

_PR_SET_PDEATHSIG = 1


def main() -> None:
    starter, lock, package = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    os.set_inheritable(lock, False)
    # The kernel sends it when the starter is gone, even by SIGKILL. A thread that waits for that would do too, but
    # a part may fork, and takes its signals in its one thread.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != starter:
        return
    sys.argv = [package, *sys.argv[4:]]
    sys.exit(import_module(f"{package}.main").main())


if __name__ == "__main__":
    main()
