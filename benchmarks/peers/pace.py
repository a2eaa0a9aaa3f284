"""Work in slices. With slices, processes can be measured in turns, so that all see the same machine.

A peer calls `step` after each of its training steps. A slice ends with the first step after `seconds`, and is printed as
one line of JSON. With `--paced`, a slice begins when a line arrives on standard input, and the process ends when the input
ends. Without it, a peer works through `--slices` slices and prints the last one. The slices before are its warm-up.

This file uses only the standard library, because it runs in every environment.
"""

import argparse
import json
import sys
import time
from typing import Any


class Pace:
    """The clock of one peer.

    Args:
        arguments: as parsed by `parser`.
        about: a description of the peer, printed with every slice.
    """

    def __init__(self, arguments: argparse.Namespace, **about: Any) -> None:
        self.seconds: float = arguments.seconds
        self.paced: bool = arguments.paced
        self.left: int = arguments.slices
        self.about = about

    def begin(self) -> None:
        """With `--paced`, wait for a line on standard input. Then start the clock."""
        if self.paced and not sys.stdin.readline():
            sys.exit()
        self.tokens = self.steps = 0
        self.began = time.perf_counter()

    def step(self, tokens: int) -> None:
        """Count a finished step over this number of tokens."""
        self.tokens += tokens
        self.steps += 1
        seconds = time.perf_counter() - self.began
        if seconds < self.seconds:
            return
        self.left -= 1
        if self.paced or self.left == 0:
            rate = {"tokens_per_second": self.tokens / seconds, "steps_per_second": self.steps / seconds}
            print(json.dumps({**self.about, **rate, "tokens": self.tokens, "seconds": seconds}), flush=True)
        if not self.paced and self.left == 0:
            sys.exit()
        self.begin()


def parser(description: str | None) -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=float, default=2.0, help="length of a slice")
    options.add_argument("--slices", type=int, default=2, help="without --paced: number of slices; the last one is printed")
    options.add_argument("--paced", action="store_true", help="begin each slice when a line arrives on standard input")
    return options
