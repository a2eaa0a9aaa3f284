"""Signals: heard in every phase, decided in one place."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from signal import Signals
from typing import Any

import pytest

from throughline.plumbing import stopping
from throughline.plumbing.errors import UserError
from throughline.plumbing.launchers import RANKS, SIZES, refuse_foreign_launcher

STATUS = {Signals.SIGINT: 130, Signals.SIGTERM: 143, Signals.SIGHUP: 129, Signals.SIGUSR1: 75}


def status_of(work: Callable[[], Any]) -> int:
    """The exit status of another process that does the work, with the usual handlers."""
    pid = os.fork()
    if pid == 0:
        status: Any = 1
        for number in (*STATUS, Signals.SIGUSR2):
            signal.signal(number, signal.default_int_handler if number == Signals.SIGINT else signal.SIG_DFL)
        try:
            work()
            status = 0
        except SystemExit as error:
            status = error.code
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def send(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0)  # the handler runs between two steps of the interpreter


@pytest.mark.parametrize("number", STATUS)
def test_a_signal_ends_a_program_at_once_with_its_status(number: Signals) -> None:
    def work() -> None:
        with stopping.heard():
            send(number)
            os._exit(9)

    assert status_of(work) == STATUS[number]


@pytest.mark.parametrize("number", STATUS)
def test_a_signal_waits_where_something_would_be_lost(number: Signals) -> None:
    def work() -> None:
        with stopping.heard():
            with stopping.waiting():
                send(number)
                with stopping.waiting():
                    pass
                assert stopping.received() == number
                reached.append(True)
            os._exit(9)

    reached: list[bool] = []
    assert status_of(work) == STATUS[number]

    def training() -> None:
        with stopping.heard():
            stopping.wait(True)
            send(number)
            stopping.wait(False)
            os._exit(9)

    assert status_of(training) == STATUS[number]


def test_a_second_sigint_ends_it_at_once_even_while_it_waits() -> None:
    def work() -> None:
        with stopping.heard(), stopping.waiting():
            send(signal.SIGINT)
            send(signal.SIGINT)
            os._exit(9)

    assert status_of(work) == 130


def test_an_exception_that_a_library_swallows_is_raised_again() -> None:
    def work() -> None:
        with stopping.heard(), suppress(BaseException):
            send(signal.SIGTERM)

    assert status_of(work) == 143


def test_nohup_is_respected_and_handlers_are_as_before() -> None:
    def work() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        before = [signal.getsignal(number) for number in signal.valid_signals()]
        with stopping.heard():
            send(signal.SIGHUP)
            assert [signal.getsignal(number) for number in signal.valid_signals()] != before
        assert [signal.getsignal(number) for number in signal.valid_signals()] == before

    assert status_of(work) == 0


def test_a_launchers_handler_has_the_last_word_at_the_next_safe_point() -> None:
    def work() -> None:
        called: list[int] = []
        signal.signal(signal.SIGUSR2, lambda number, _: called.append(number))
        signal.signal(signal.SIGTERM, lambda number, _: os._exit(3 if called == [Signals.SIGUSR2] else 4))
        with stopping.heard():
            stopping.wait(True)
            send(signal.SIGUSR2)
            assert (stopping.received(), called) == (Signals.SIGUSR2, [])
            stopping.stop(stopping.received())  # the end of a batch; the handler returns, so the work continues
            send(signal.SIGTERM)
            stopping.stop(stopping.received())

    assert status_of(work) == 3


def test_processes_that_are_started_do_not_hear() -> None:
    def work() -> None:
        with stopping.heard(), stopping.not_inherited():
            child = status_of_blocked()
            assert child == set(STATUS)

    def status_of_blocked() -> set[int]:
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.write(writing, bytes(signal.pthread_sigmask(signal.SIG_BLOCK, [])))
            os._exit(0)
        os.waitpid(pid, 0)
        return set(os.read(reading, 64)) & set(STATUS)

    assert status_of(work) == 0


WORK_OF_A_LIBRARY = """
import os, signal, sys, time
from throughline.commands import start
from throughline.data.sources.text import Text
from throughline.plumbing import stopping

def work():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)

Text.read = lambda *_: stopping.at_once(work)
sys.argv = ["prepare.py", "data=text", "data.path=any"]
start.prepare()
"""


def test_a_command_says_that_it_stops_even_inside_a_library() -> None:
    began = time.perf_counter()
    ended = subprocess.run([sys.executable, "-c", WORK_OF_A_LIBRARY], capture_output=True, text=True, timeout=50)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "SIGINT: stopped\n")
    assert time.perf_counter() - began < 45  # it has not waited for the library


def test_what_a_library_raises_in_its_thread_is_raised() -> None:
    done: list[int] = []
    stopping.at_once(lambda: done.append(threading.get_ident()))
    assert done != [threading.get_ident()]
    with pytest.raises(UserError, match=r"^no$"):
        stopping.at_once(partial(refuse, "no"))


def refuse(why: str) -> None:
    raise UserError(why)


@pytest.mark.parametrize("name", [*RANKS, *SIZES])
def test_one_of_several_processes_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in (*RANKS, *SIZES):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv("SLURM_NTASKS", "4")  # a batch script, which runs once
    refuse_foreign_launcher()
    monkeypatch.setenv(name, "1" if name in SIZES else "0")
    refuse_foreign_launcher()
    monkeypatch.setenv(name, "2")
    with pytest.raises(
        UserError, match=rf"^{name}=2: a launcher has started several processes; start one, and give trainer"
    ):
        refuse_foreign_launcher()
