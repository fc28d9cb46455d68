"""The entry of a process that `supervise` starts: runs a part's `main` and ends when its starter does.

`python -m modelcanary_cli.child LIFE LOCK PACKAGE ARGUMENT ...`: LIFE is the reading end of a pipe that only the
starter can write to, so its end is the starter's, however that ended; LOCK is held open until this process ends.
Must not know what the part does.
"""

import os
import signal
import sys
import threading
import time
from importlib import import_module

#: A part that was told to end and has not is killed after this, seconds.
_GRACE = 15.0


def _follow(life: int) -> None:
    """Blocks until the starter is gone, then ends this process as a supervisor would."""
    os.read(life, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE)
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    life, lock, package = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    for handle in (life, lock):
        os.set_inheritable(handle, False)
    threading.Thread(target=_follow, args=(life,), name="follow-starter", daemon=True).start()
    sys.argv = [package, *sys.argv[4:]]
    sys.exit(import_module(f"{package}.main").main())


if __name__ == "__main__":
    main()
