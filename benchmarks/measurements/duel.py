"""Peers measured in turns, because a machine has fast and slow minutes and a program has fast and slow processes.

A rate that is measured now says little about a rate measured one minute later: the clock speed and the load of neighbours
change. So all peers are started, wait, and work in turns, one slice each. The order is reversed every round. A ratio always
compares slices of the same round, because these are only seconds apart.

A process may also land on memory that suits it or not, for its whole life. So everything is repeated with new processes,
`landings` times. A result is the median over all rounds. Its spread goes from the lowest to the highest of the landings'
medians. With one landing, it goes from the lowest to the highest round.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.measurements.environment import environment
from benchmarks.measurements.figures import Figure

Slice = dict[str, Any]


class PeerError(Exception):
    """A peer ended too early; the message is the last line that it printed to stderr."""


class Worker:
    """One process that works one slice at a time and waits in between."""

    def __init__(self, command: list[str]) -> None:
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115  # closed with the process
        self._process = subprocess.Popen(
            [*command, "--paced"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=environment(Path(command[0])),
        )

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._process.__exit__(None, None, None)
        self._errors.close()

    def slice(self) -> Slice:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the process has ended; its output says why
        for line in self._process.stdout:
            if line.startswith("{"):
                found: Slice = json.loads(line)
                return found
        self._errors.seek(0)
        said = [line for line in self._errors.read().splitlines() if line.strip()]
        raise PeerError(said[-1] if said else "it ended without an error message")


@dataclass
class Duel:
    """The measured slices.

    Attributes:
        slices: by peer, a list for each landing with one slice for each round.
        failed: by peer, the reason why it has no slices.
    """

    slices: dict[str, list[list[Slice]]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def rate(self, name: str) -> float:
        """The median of the peer's tokens per second."""
        return statistics.median(float(s["tokens_per_second"]) for landing in self.slices[name] for s in landing)

    def check_same_model(self, ours: str, theirs: str, more: int = 0) -> None:
        """Check that our model has `more` parameters more than the peer's."""
        a, b = (self.slices[name][0][0]["parameters"] for name in (ours, theirs))
        if a != b + more:
            raise RuntimeError(f"{theirs} is another model: {b:,} parameters, and {a:,} in {ours}")

    def ratio(self, ours: str, theirs: str) -> Figure:
        """The tokens per second of `ours` divided by those of `theirs`, from slices of the same rounds."""
        pairs = zip(self.slices[ours], self.slices[theirs], strict=True)
        return Figure.of(
            [
                [a["tokens_per_second"] / b["tokens_per_second"] for a, b in zip(mine, other, strict=True)]
                for mine, other in pairs
            ]
        )


def duel(commands: dict[str, list[str]], landings: int, rounds: int, warmups: int = 1) -> Duel:
    """Let the peers work in turns. A peer that fails is left out, and its last message is kept."""
    result = Duel()
    for _ in range(landings):
        with ExitStack() as stack:
            workers = {name: stack.enter_context(Worker(command)) for name, command in commands.items()}
            for name, worker in list(workers.items()):
                try:
                    for _ in range(warmups):
                        worker.slice()
                except PeerError as error:
                    result.failed[name] = str(error)
                    del workers[name]
            landed: dict[str, list[Slice]] = {name: [] for name in workers}
            for turn in range(rounds):
                for name in list(workers) if turn % 2 == 0 else reversed(list(workers)):
                    landed[name].append(workers[name].slice())
        for name, slices in landed.items():
            result.slices.setdefault(name, []).append(slices)
            rates = ", ".join(f"{s['tokens_per_second']:,.0f}" for s in slices)
            print(f"  {name}: {rates}", file=sys.stderr, flush=True)
    result.slices = {name: landed for name, landed in result.slices.items() if name not in result.failed}
    for name, reason in result.failed.items():
        print(f"  {name}: {reason}", file=sys.stderr, flush=True)
    return result
