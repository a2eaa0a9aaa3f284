"""Readings are ways to read a split and to score it. One file per reading.

A new reading needs one file here, one YAML in `conf/readings`, and one line in
`tests/evaluation/readings/test_every_reading.py`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass as plain_dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from throughline.data.line import Line
from throughline.evaluation.protocol import Evaluation
from throughline.plumbing.errors import UserError
from throughline.regimes import Cut, Plan, Played
from throughline.settings import word

if TYPE_CHECKING:  # settings are read before torch is imported
    from torch import Tensor

    from throughline.batches.batch import Batch
    from throughline.batches.carry import State
    from throughline.model.generator import Generator


class Scores(NamedTuple):
    """The scores of a batch by a reading.

    Attributes:
        nll: (B, T) in nats, zero for targets that are not scored.
        correct: (B, T) bool, False for targets that are not scored; None if the head has no likeliest step.
    """

    nll: "Tensor"
    correct: "Tensor | None"

    def sums(self, batch: "Batch") -> "tuple[Tensor, Tensor, Tensor | None]":
        """The sum of the nll, the number of scored targets, and the number of targets that are the likeliest step."""
        return self.nll.sum(), batch.scored.sum(), None if self.correct is None else self.correct.sum()


class Reading(ABC):
    """One way to read a split; the fields of a subclass are its settings.

    Attributes:
        while_training: whether validations during training also use it, not only the end of a run and `evaluate.py`.
        one_row: whether it is one pass with the state carried and nothing else. Such a pass may be read in many rows at
            once, with states handed over between rows (`throughline.evaluation.handover`). A subclass has to say so again.
        learns: whether `score` needs gradients; inference mode is then off.
        apart: whether `plan` keeps sequences apart that are not joined, by `Line.edges`. A subclass has to say so again.
        of_symbols: whether it can read symbols alone, and no frames.
    """

    while_training: ClassVar[bool] = True
    one_row: ClassVar[bool] = False
    learns: ClassVar[bool] = False
    apart: ClassVar[bool] = False
    of_symbols: ClassVar[bool] = False

    @property
    def name(self) -> str:
        return word(type(self))

    @property
    def suffix(self) -> str:
        """The end of the names of its metrics: `reset` gives `val/nll_reset`."""
        return f"_{self.name}"

    def refuse(self, line: Line) -> None:
        """Refuse a line that it cannot read, before any work.

        Raises:
            UserError: the line has frames, or sequences that it would not keep apart.
        """
        line.refuse_to_join(self, f"readings={self.name}")
        if self.of_symbols and line.frames:
            raise UserError(f"readings={self.name}: is for symbols, and these data are frames; leave it out")

    @abstractmethod
    def plan(self, line: Line, evaluation: Evaluation, exact: bool) -> Plan:
        """The batches to read; they score every target of the line once, or with `evaluation.tokens` only some targets.

        Args:
            exact: whether to read exactly, as at the end of a run, rather than quickly.
        """

    def begin(self, generator: "Generator") -> Any:
        """The first argument of `score`: the generator in evaluation mode, or a copy that may change."""
        return generator

    def score(self, generator: Any, batch: "Batch", state: "State | None") -> "tuple[Scores, State]":
        """Score a batch from the state before it; both validation and `measure` use this implementation.

        Args:
            generator: the result of `begin`.

        Returns:
            The scores, and the state after the batch.
        """
        nll, correct, state = generator.score(batch.inputs, batch.targets, state)
        return Scores(nll.masked_fill(~batch.scored, 0.0), None if correct is None else correct & batch.scored), state


@plain_dataclass(frozen=True)
class First(Plan):
    """The first `batches` batches of a plan whose order is random, so that they are spread over the line."""

    plan: Plan
    batches: int

    def __len__(self) -> int:
        return self.batches

    def __getitem__(self, k: int) -> Cut | Played:
        return self.plan[k]
