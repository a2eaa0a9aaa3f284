"""The one protocol by which every network is measured, with any regime of training.

A reading is a way to read a split. `val/nll` carries the state through the whole split. `val/nll_reset` starts from zeros
every `reset_every` targets. Other readings are optional. Each scores every target of the split once.
"""

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from throughline.settings import STRICT, PositiveInt

TOKENS_PER_BATCH = 4096
"""Tokens per batch of a reading: enough to fill a device, and few enough for the logits of a large vocabulary."""


@dataclass(frozen=True, config=STRICT)
class Evaluation:
    """The settings that all readings have in common."""

    reset_every: PositiveInt = 256
    """Targets from one reset to the next in `val/nll_reset`."""
    streams: PositiveInt = 64
    """The largest number of rows in which `val/nll` is read at once. Lower it if memory is short."""
    warmup: Annotated[int, Field(ge=0)] = 256
    """Unscored targets that each of these rows reads first. Validations during training rely on them. At the end of a run
    the hand-over between rows is checked, so that the result is that of one row."""
    tokens: PositiveInt | None = None
    """Targets to read in validations during training, spread over the split. None: all of them. Set it if validation takes
    long."""
