"""The state is reset every `reset_every` targets: the loss per token of a generator without a long past."""

from dataclasses import dataclass as plain_dataclass

from pydantic.dataclasses import dataclass

from throughline.data.line import Line
from throughline.evaluation.protocol import TOKENS_PER_BATCH, Evaluation
from throughline.evaluation.readings import Reading
from throughline.regimes import Cut, Plan
from throughline.regimes.segments import Segments
from throughline.settings import STRICT


@dataclass(frozen=True, config=STRICT)
class Reset(Reading):
    """`val/nll_reset`: the split is read in pieces of `evaluation.reset_every` targets, each from zeros."""

    def plan(self, line: Line, evaluation: Evaluation, exact: bool) -> Plan:
        steps = min(evaluation.reset_every, line.num_targets)
        rows = max(1, TOKENS_PER_BATCH // steps)
        pieces = Segments(steps=steps, batch_size=rows).plan(line, seed=0, epoch=0)
        if exact or evaluation.tokens is None:
            return pieces
        return First(pieces, min(len(pieces), -(-evaluation.tokens // (rows * steps))))


@plain_dataclass(frozen=True)
class First(Plan):
    """The first `batches` batches of a plan whose order is random, so that they are spread over the line."""

    plan: Plan
    batches: int

    def __len__(self) -> int:
        return self.batches

    def __getitem__(self, k: int) -> Cut:
        return self.plan[k]
