"""Shows what the network writes while it learns."""

import copy
from collections.abc import Callable
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from throughline.config import Sampling
from throughline.data.codecs.frames import Frames
from throughline.runs.trained import Trained
from throughline.training.datamodule import datamodule_of
from throughline.training.learner import Learner
from throughline.training.spending import Spending

SYMBOLS = 80
"""The most symbols of a short passage."""
MOST = 200
"""The passages that are kept: of more, every second one is dropped."""


class Passages(Callback):
    """Generates a short passage at validations, always by the same draws, so that only the network differs.

    Attributes:
        rows: the tokens trained on and the passage, for each.

    Args:
        settings: those of the passages.
        seed: that of the run.
        spending: what the run has spent.
        show: called with the passage, and with all rows.
    """

    def __init__(
        self, settings: Sampling, seed: int, spending: Spending, show: Callable[[str, list[tuple[int, str]]], object]
    ) -> None:
        self.settings, self.seed, self.spending, self.show = settings, seed, spending, show
        self.rows: list[tuple[int, str]] = []
        self.validations = 0

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, Learner)
        self.validations += 1
        codec = datamodule_of(trainer).corpus.codec
        due = self.settings.every and self.validations % self.settings.every == 0
        if not due or isinstance(codec, Frames) or not trainer.is_global_zero:
            return
        with self.spending.paused():
            self._generate(Trained(copy.deepcopy(pl_module.generator).cpu().eval(), codec))

    def _generate(self, trained: Trained) -> None:
        most = min(SYMBOLS, self.settings.length)
        longest: dict[str, Any] = {"length": most} if trained.codec.end is None else {"max_length": most}
        passage = trained.generate(temperature=self.settings.temperature, seed=self.seed, **longest)
        self.rows.append((self.spending.tokens, passage))
        if len(self.rows) > MOST:
            del self.rows[1::2]
        self.show(passage, self.rows)

    def state_dict(self) -> dict[str, Any]:
        return {"rows": [list(row) for row in self.rows], "validations": self.validations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = [(int(tokens), str(passage)) for tokens, passage in state_dict["rows"]]
        self.validations = int(state_dict["validations"])
