"""A thread that follows one source until it is stopped, again and again where something is in its way.

Made by `following`. It must not know what kind of source it is.
"""

import logging
import threading
from collections.abc import Callable
from typing import Protocol

from modelcanary_cli.errors import CliError
from modelcanary_cli.follow.delivery import Tally

log = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0


class Source(Protocol):
    def run(self) -> None:
        """Until it is stopped. Raises CliError where it cannot go on; then it is made anew after a while."""
        ...


class Worker:
    def __init__(self, tally: Tally, make: Callable[[threading.Event], Source]) -> None:
        self.tally = tally
        self._make = make
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=tally.name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """It ends after what it is doing; `ended` says when."""
        self._stop.set()

    def ended(self, within: float = 0.0) -> bool:
        self._thread.join(within)
        return not self._thread.is_alive()

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while not self._stop.is_set():
            before = self.tally.labels
            try:
                self._make(self._stop).run()
            except CliError as error:
                self.tally.fail(str(error))
            except Exception:  # the boundary of one source: the others go on
                log.exception("%s: a bug of modelcanary", self.tally.name)
                self.tally.fail("a bug of modelcanary, which the log tells of")
            pause = _FIRST_PAUSE if self.tally.labels > before else min(2 * pause, _LONGEST_PAUSE)
            self._stop.wait(pause)
