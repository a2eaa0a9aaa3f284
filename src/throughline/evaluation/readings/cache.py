"""Neural cache: what was read lately becomes likelier again where the state is alike (Grave 2017, arXiv 1612.04426)."""

import math
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from throughline.data.line import Line
from throughline.evaluation.protocol import Evaluation
from throughline.evaluation.readings import Reading, Scores
from throughline.evaluation.readings.carried import carried_plan, one_by_one
from throughline.regimes import Plan
from throughline.settings import STRICT, Fraction, PositiveInt

if TYPE_CHECKING:
    from torch import Tensor

    from throughline.batches.batch import Batch
    from throughline.batches.carry import State
    from throughline.model.generator import Generator

STEPS = 64
"""Targets that are read at once; the result does not depend on it."""


@dataclass(frozen=True, config=STRICT)
class Cache(Reading):
    """`val/nll_cache`: one carried pass in which the last steps are remembered, each with the output of the core before it.

    A remembered step with the output h' counts exp(theta * h h') for the present output h. The shares of all remembered
    steps with the same symbol add up to its probability by the cache, and the prediction is (1 - strength) times that of the
    network plus strength times that of the cache. With `strength` at 0 the result is that of `carried`.
    """

    while_training: ClassVar[bool] = False
    apart: ClassVar[bool] = True
    of_symbols: ClassVar[bool] = True

    strength: Fraction = 0.1
    """The share of the cache in the prediction."""
    theta: Annotated[float, Field(ge=0, le=1000)] = 0.3
    """How much likeness counts; 0 makes the cache a table of frequencies."""
    window: PositiveInt = 2000
    """How many steps are remembered."""

    def plan(self, line: Line, evaluation: Evaluation, exact: bool) -> Plan:
        return carried_plan(line, 1, 0, tokens_per_batch=STEPS) if line.joined else one_by_one(line, STEPS)

    def begin(self, generator: "Generator") -> "Remembering":
        return Remembering(generator)

    def score(self, generator: "Remembering", batch: "Batch", state: "State | None") -> "tuple[Scores, State]":
        output, state = generator.generator.output(batch.inputs, state)  # T, 1, H
        nll, correct = generator.read(output[:, 0], batch.targets[0], self)
        scored = batch.scored
        return Scores(nll[None].masked_fill(~scored, 0.0), correct[None] & scored), state


class Remembering:
    """A generator, and the outputs and symbols that it has read last: (N, H) and (N,), the latest one last."""

    def __init__(self, generator: "Generator") -> None:
        self.generator = generator
        self.outputs: Tensor | None = None
        self.symbols: Tensor | None = None

    def read(self, output: "Tensor", targets: "Tensor", settings: Cache) -> "tuple[Tensor, Tensor]":
        """The nll of T targets after outputs (T, H), and whether each is the likeliest symbol; then they are remembered."""
        import torch

        steps, window = len(targets), settings.window
        outputs = output if self.outputs is None else torch.cat([self.outputs, output])
        symbols = targets if self.symbols is None else torch.cat([self.symbols, targets])
        before = len(outputs) - steps
        place = torch.arange(len(outputs), device=output.device)
        age = place[before:, None] - place  # T, N: a step may see those that it has read, with an age of 1 or more
        seen = (age >= 1) & (age <= window)
        likeness = (settings.theta * output @ outputs.t()).masked_fill(~seen, -math.inf)
        shares = likeness.softmax(dim=1).nan_to_num(0.0)  # the first step of all has seen nothing
        logits = self.generator.head(output)
        nll = self.generator.head.nll(logits[:, None], targets[:, None])[:, 0]
        cached = torch.zeros_like(logits).scatter_add_(1, symbols.expand(steps, -1), shares)
        strength = seen.any(dim=1).to(logits) * settings.strength
        of_target = cached.gather(1, targets[:, None])[:, 0]
        mixed = torch.logaddexp(torch.log1p(-strength) - nll, strength.log() + of_target.log())
        both = (1 - strength)[:, None] * logits.softmax(dim=1) + strength[:, None] * cached
        self.outputs, self.symbols = outputs[-window:], symbols[-window:]
        return -mixed, both.argmax(dim=1) == targets
