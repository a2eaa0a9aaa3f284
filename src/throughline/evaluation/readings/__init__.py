"""Ways to read a split and to score it: one file per reading.

A new reading is one file here, one YAML in `conf/readings`, one line in `tests/evaluation/readings/test_every_reading.py`.
"""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from throughline.data.line import Line
from throughline.evaluation.protocol import Evaluation
from throughline.regimes import Plan
from throughline.settings import word

if TYPE_CHECKING:  # settings are read before torch is imported
    from torch import Tensor

    from throughline.batches.batch import Batch
    from throughline.batches.carry import State
    from throughline.model.generator import Generator


class Scores(NamedTuple):
    """What a reading says of a batch.

    Attributes:
        nll: (B, T) in nats, zero where nothing is scored.
        correct: (B, T) bool, False where nothing is scored; None where a head has no likeliest step.
    """

    nll: "Tensor"
    correct: "Tensor | None"

    def sums(self, batch: "Batch") -> "tuple[Tensor, Tensor, Tensor | None]":
        """The nll, how many targets are scored, and how many likeliest steps are the target."""
        return self.nll.sum(), batch.scored.sum(), None if self.correct is None else self.correct.sum()


class Reading(ABC):
    """One way to read a split; the fields of a subclass are its settings.

    Attributes:
        while_training: whether validations on the way read so, too; otherwise only the end of a run and `evaluate.py` do.
        one_row: whether it is one pass with the state carried and nothing else, which may be read in many rows at once
            whose states are handed over (`throughline.evaluation.handover`).
        learns: whether `score` needs gradients, and so no inference mode.
    """

    while_training: ClassVar[bool] = True
    one_row: ClassVar[bool] = False
    learns: ClassVar[bool] = False

    @property
    def name(self) -> str:
        return word(type(self))

    @property
    def suffix(self) -> str:
        """Of its metrics: `val/nll_reset` is that of `reset`."""
        return f"_{self.name}"

    @abstractmethod
    def plan(self, line: Line, evaluation: Evaluation, exact: bool) -> Plan:
        """The batches that it reads; every target of the line is scored once, or with `evaluation.tokens` some are.

        Args:
            exact: as at the end of a run, rather than quickly.
        """

    def begin(self, generator: "Generator") -> Any:
        """What `score` is given: the generator in evaluation mode, or a copy that may change."""
        return generator

    def score(self, generator: Any, batch: "Batch", state: "State | None") -> "tuple[Scores, State]":
        """Score a batch from the state that it begins with; the one implementation, of validation and of `measure`.

        Args:
            generator: what `begin` gave.

        Returns:
            The scores, and the state after the batch.
        """
        nll, predicted, state = generator.score(batch.inputs, batch.targets, state)
        correct = generator.head.correct(predicted, batch.targets)
        return Scores(nll.masked_fill(~batch.scored, 0.0), None if correct is None else correct & batch.scored), state
