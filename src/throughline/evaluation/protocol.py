"""The one protocol by which every regime is measured, whatever it was trained with.

Readings say how a split is read: `val/nll` with the state carried through all of it, `val/nll_reset` from zeros every so
many targets, and others by choice. Each scores every target of the split once.
"""

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from throughline.settings import STRICT, PositiveInt

TOKENS_PER_BATCH = 4096
"""Of the batches of a reading: enough to fill a device, and little enough for the logits of a large vocabulary."""


@dataclass(frozen=True, config=STRICT)
class Evaluation:
    """What all readings have in common."""

    reset_every: PositiveInt = 256
    """`val/nll_reset` starts from zeros every so many targets."""
    streams: PositiveInt = 64
    """`val/nll` is read in at most so many rows at once. Lower it where memory is short."""
    warmup: Annotated[int, Field(ge=0)] = 256
    """Each of those rows first reads so many targets unscored. Validations on the way rely on it; at the end of a run the
    hand-over between rows is checked, so that the figure is that of one row."""
    tokens: PositiveInt | None = None
    """In validations on the way, read so many targets only, spread over the split; None is all of them. Set it where
    validation takes long."""
