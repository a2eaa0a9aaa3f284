"""The signals that ask a program to stop: heard from its first line to its last, and decided in this file alone.

A signal stops the program at once, by the exception `Stopped`, wherever nothing is lost by that. Where something would be
lost, it waits: until a block of `waiting()` ends or, in training, for the end of the batch.
"""

import atexit
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from signal import Handlers, Signals
from typing import Any

EXIT_STATUS = {Signals.SIGINT: 130, Signals.SIGTERM: 143, Signals.SIGHUP: 129, Signals.SIGUSR1: 75}
"""The exit status by signal; 75 is EX_TEMPFAIL of sysexits.h: start the same command again."""


class Stopped(SystemExit):
    """A signal has asked the program to stop. Nobody needs to catch it: the program then ends with the right status."""

    def __init__(self, number: int) -> None:
        super().__init__(EXIT_STATUS.get(Signals(number), 128 + number))
        self.number = Signals(number)
        self.status = EXIT_STATUS.get(self.number, 128 + number)
        super().__init__(self.status)
        self.told = False
        """Whether a line about it has been printed."""


class _Signals:
    """What this process has heard.

    Attributes:
        received: the first signal that asked it to stop.
        interrupts: the number of SIGINTs.
        waits: whether signals wait at the moment.
        continued: how often the process was suspended and continued (SIGSTOP or Ctrl-Z, then SIGCONT).
        before: the handlers that were there before; None while nobody listens.
    """

    received: Signals | None = None
    interrupts = 0
    waits = False
    continued = 0
    before: dict[Signals, Any] | None = None


_heard = _Signals()


@contextmanager
def heard() -> Iterator[None]:
    """Hear signals while the body runs; inside another such block, and outside of the main thread, this does nothing.

    A handler in Python that was there before is a launcher's, for example submitit's for preemption. It keeps the last word:
    it is called when the program could stop. If it returns, the program continues. An ignored SIGHUP stays ignored: `nohup`
    asks for that.

    Raises:
        Stopped: a signal came; at the end also if a library has swallowed the exception.
    """
    if _heard.before is not None or threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [*EXIT_STATUS, *(n for n in (Signals.SIGUSR2,) if callable(signal.getsignal(n)))]
    if signal.getsignal(Signals.SIGHUP) == Handlers.SIG_IGN:
        numbers.remove(Signals.SIGHUP)
    _heard.received, _heard.interrupts, _heard.waits = None, 0, False
    _heard.before = {number: signal.getsignal(number) for number in (*numbers, Signals.SIGCONT)}
    try:
        signal.signal(Signals.SIGCONT, _count)
        for number in numbers:
            signal.signal(number, _note)
        yield
        _stop_if_asked()
    finally:
        before, _heard.before, _heard.received = _heard.before, None, None
        for number, handler in before.items():
            signal.signal(number, Handlers.SIG_DFL if handler is None else handler)


def end_at_once() -> None:
    """From now on, a signal ends the process at once: nothing is left to be lost."""
    for number, status in EXIT_STATUS.items():
        if signal.getsignal(number) != Handlers.SIG_IGN:
            signal.signal(number, partial(_end, status))


@contextmanager
def waiting() -> Iterator[None]:
    """Let a signal wait until the body has ended."""
    before, _heard.waits = _heard.waits, True
    try:
        yield
    finally:
        _heard.waits = before
    if not before:
        _stop_if_asked()


def wait(yes: bool) -> None:
    """From now on, signals wait, or stop the program at once.

    Raises:
        Stopped: a signal has waited, and need not wait any longer.
    """
    _heard.waits = yes
    if not yes:
        _stop_if_asked()


def no_longer_wait() -> None:
    """Like `wait(False)`, where an exception already ends the work."""
    _heard.waits = False


def received() -> int:
    """The number of the signal that waits; 0 if there is none."""
    return _heard.received or 0


def stop(number: int) -> None:
    """Stop the program, as the signal `number` asks; a launcher's handler may decide otherwise."""
    launcher = (_heard.before or {}).get(Signals(number))
    _heard.received = None
    if callable(launcher) and launcher is not signal.default_int_handler:
        launcher(number, None)
        return
    _heard.received = Signals(number)  # should a library swallow the exception, the next check raises it again
    raise Stopped(number)


def at_once(work: Callable[[], object]) -> None:
    """Do long work of a library that leaves Python, in a thread of its own: a signal still stops the program at once.

    The library cannot be stopped. Its thread would meet a Python that is being taken down, so the process then ends without.
    """
    failed: list[BaseException] = []

    def attempt() -> None:
        try:
            work()
        except BaseException as error:  # raised again below
            failed.append(error)

    thread = threading.Thread(target=copy_context().run, args=(attempt,), daemon=True)
    thread.start()
    try:
        thread.join()
    except Stopped as stopped:
        atexit.register(_flushed_end, stopped.status)
        raise
    for error in failed:
        raise error


def times_continued() -> int:
    """How often this process was suspended and continued."""
    return _heard.continued


@contextmanager
def not_inherited() -> Iterator[None]:
    """Processes that are started in this block do not hear the signals: this one decides, and ends them.

    A signal to the group, such as Ctrl-C, would otherwise end loader workers in the middle of a batch.
    """
    if _heard.before is None:
        yield
        return
    signals = {*EXIT_STATUS, *_heard.before} - {Signals.SIGCONT}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _stop_if_asked() -> None:
    if _heard.received is not None:
        stop(_heard.received)


def _note(number: int, _: Any) -> None:
    _heard.interrupts += number == signal.SIGINT
    if _heard.interrupts > 1:
        _end(EXIT_STATUS[Signals.SIGINT])
    if _heard.received is None:  # else the program already ends
        _heard.received = Signals(number)
        if not _heard.waits:
            stop(number)


def _end(status: int, *_: Any) -> None:
    os._exit(status)


def _flushed_end(status: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _count(*_: Any) -> None:
    _heard.continued += 1
