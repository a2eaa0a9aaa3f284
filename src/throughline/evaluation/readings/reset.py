"""The state is reset every `reset_every` targets: the loss per token of a generator without a long past."""

from dataclasses import replace
from typing import ClassVar

from pydantic.dataclasses import dataclass

from throughline.data.line import Line
from throughline.evaluation.protocol import TOKENS_PER_BATCH, Evaluation
from throughline.evaluation.readings import First, Reading
from throughline.evaluation.readings.carried import sequences_plan
from throughline.regimes import Plan
from throughline.regimes.segments import Segments, cut_every
from throughline.settings import STRICT


@dataclass(frozen=True, config=STRICT)
class Reset(Reading):
    """`val/nll_reset`: the split is read in pieces of `evaluation.reset_every` targets, each from zeros."""

    apart: ClassVar[bool] = True

    def plan(self, line: Line, evaluation: Evaluation, exact: bool) -> Plan:
        if not line.joined:
            pieces_of_sequences = replace(line, ends=cut_every(evaluation.reset_every, line.edges)[1:])
            return sequences_plan(pieces_of_sequences, evaluation, None if exact else evaluation.tokens)
        steps = min(evaluation.reset_every, line.num_targets)
        rows = max(1, TOKENS_PER_BATCH // steps)
        pieces = Segments(steps=steps, batch_size=rows).plan(line, seed=0, epoch=0)
        if exact or evaluation.tokens is None:
            return pieces
        return First(pieces, min(len(pieces), -(-evaluation.tokens // (rows * steps))))
