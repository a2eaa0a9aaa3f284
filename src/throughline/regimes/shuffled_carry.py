"""`stateful` with its chunks in a random order, but with the state still carried: the ablation of order.

Do not train this way: the state from which a row continues belongs to another place on the line.
"""

from dataclasses import dataclass as plain_dataclass

import numpy as np
from pydantic.dataclasses import dataclass

from throughline.data.line import Line
from throughline.regimes import Cut, Plan
from throughline.regimes.permutation import Permutation, permutation
from throughline.regimes.stateful import Stateful, with_resets
from throughline.settings import STRICT


@dataclass(frozen=True, config=STRICT)
class ShuffledCarry(Stateful):
    """Whole batches of `Stateful`, in a new random order each epoch; only the first one resets.

    In addition, rows start from zeros with `reset_probability`, as in `Stateful`.
    """

    def plan(self, line: Line, seed: int, epoch: int) -> Plan:
        ordered = self.at(epoch).chunks(line, seed, epoch)
        shuffled = Shuffled(ordered, permutation(len(ordered), np.random.default_rng((seed, epoch))))
        return with_resets(shuffled, self.reset_probability, seed, epoch)


@plain_dataclass(frozen=True)
class Shuffled(Plan):
    """The batches of another plan in `order`, with the state carried from each to the next."""

    ordered: Plan
    order: Permutation

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, k: int) -> Cut:
        cut = self.ordered[int(self.order[k : k + 1][0])]
        assert isinstance(cut, Cut)
        return cut._replace(reset=np.full_like(cut.reset, k == 0))
