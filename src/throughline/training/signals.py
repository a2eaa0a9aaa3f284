"""The signals that ask a run to stop."""

import os
import signal
import threading
from typing import Any, ClassVar


class Signals:
    """Notes a signal, so that the run can stop between two batches; a second SIGINT stops it at once."""

    EXIT_STATUS: ClassVar = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 75}
    """The exit status by signal; 75 is EX_TEMPFAIL of sysexits.h: start the same command again."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def watch(self) -> None:
        if threading.current_thread() is threading.main_thread():  # Python allows handlers only there
            self._before = {number: signal.signal(number, self._note) for number in self.EXIT_STATUS}

    def unwatch(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note(self, number: int, _: Any) -> None:
        if number == signal.SIGINT and self.received == signal.SIGINT:
            os._exit(self.EXIT_STATUS[signal.SIGINT])
        self.received = signal.Signals(number)
