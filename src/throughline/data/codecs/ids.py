"""A step is a number: the id of a token of somebody else's vocabulary."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from throughline.data.codecs import UNKNOWN, Codec
from throughline.plumbing.errors import UserError
from throughline.settings import STRICT

MOST_IDS = 2**24
"""The largest vocabulary. A network has weights for each id, so a larger one is a mistake."""


@dataclass(frozen=True, config=STRICT)
class Ids(Codec):
    """Steps are ids of tokens, and id i has the step i + 1; prompts and generated text are ids apart by spaces."""

    reads: ClassVar = "tokens"

    vocab_size: Annotated[int, Field(gt=0, le=MOST_IDS)] | None = None
    """The number of ids, which are 0, 1, ... None: up to the largest of the training split."""

    @property
    def fitted(self) -> bool:
        return self.vocab_size is not None

    def fit(self, sequences: Iterable[Any]) -> Self:
        if self.fitted:
            return self
        largest = max((int(np.max(ids)) for ids in sequences if len(ids)), default=0)
        return replace(self, vocab_size=largest + 1)

    @property
    def size(self) -> int:
        return (self.vocab_size or 0) + 1

    def encode(self, raw: Any) -> np.ndarray:
        ids = np.asarray(raw)
        known = (ids >= 0) & (ids < self.size - 1)
        return np.where(known, ids.astype(np.int64) + 1, UNKNOWN).astype(self.dtype)

    def prompt(self, text: str) -> np.ndarray:
        words = text.split()
        if not words:
            raise UserError("prompt: contains no symbol; give at least one")
        wrong = [word for word in words if not (word.isdecimal() and len(word) < 9 and int(word) < self.size - 1)]
        if wrong:
            raise UserError(
                f"prompt: {', '.join(map(repr, wrong[:10]))} not in the vocabulary of this checkpoint; "
                f"give ids from 0 to {self.size - 2}, apart by spaces"
            )
        return self.encode(np.array([int(word) for word in words]))

    @property
    def opening(self) -> str:
        return "0"

    def stream(self, ids: Iterable[int]) -> Iterator[str]:
        before = ""
        for id in ids:
            yield before + ("\N{REPLACEMENT CHARACTER}" if id == UNKNOWN else str(id - 1))
            before = " "
