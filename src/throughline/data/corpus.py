"""What a run trains and validates on: long lines of tokens."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from throughline.data.vocab import UNKNOWN, Vocab
from throughline.plumbing.errors import UserError

Raw = list[str] | list[list[str]]
"""Sequences of symbols in order: strings of characters, or lists of event symbols."""


@dataclass(frozen=True)
class Line:
    """Sequences laid end to end: one line of N tokens, whose N - 1 targets are all tokens but the first.

    Attributes:
        tokens: (N,) ids.
        ends: (S,) where each sequence ends, counted in targets; the last is N - 1. The last target of a sequence is the
            first token of the next one, so that every way of cutting the line has the same N - 1 targets.
    """

    tokens: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, sequences: Sequence[np.ndarray]) -> "Line":
        tokens = np.concatenate(sequences)
        ends = np.minimum(np.cumsum([len(s) for s in sequences]), len(tokens) - 1)
        return cls(tokens, np.unique(ends))

    @property
    def targets(self) -> int:
        return len(self.tokens) - 1


@dataclass(frozen=True)
class Corpus:
    """A vocabulary, a line to train on and one to validate on, and what identifies them."""

    vocab: Vocab
    train: Line
    val: Line
    fingerprint: dict[str, Any]

    @classmethod
    def of(cls, train: Raw, val: Raw, origin: dict[str, Any], vocab: Vocab | None = None) -> "Corpus":
        """Encode raw sequences; the vocabulary, where none is given, is that of `train` alone.

        Raises:
            UserError: a split has fewer than two tokens, so nothing to predict.
        """
        for split, raw in (("train", train), ("val", val)):
            size = sum(map(len, raw))
            if size < 2:
                raise UserError(f"{origin['source']}: too short: {size} tokens to {split} on, at least 2 are needed")
        if vocab is None:
            vocab = Vocab.of("".join(train) if isinstance(train[0], str) else [s for seq in train for s in seq])
        train_line, val_line = (Line.of([vocab.encode(sequence) for sequence in raw]) for raw in (train, val))
        splits = [line.tokens.tobytes() for line in (train_line, val_line)]
        # With the length of the first, since the same tokens may be split elsewhere.
        sha256 = hashlib.sha256(b"".join([str(len(splits[0])).encode(), *splits])).hexdigest()
        symbols = hashlib.sha256(repr(vocab.to_plain()).encode()).hexdigest()
        identity = {"vocab": len(vocab), "vocab_sha256": symbols, "tokens_sha256": sha256}
        return cls(vocab, train_line, val_line, {**origin, **identity})

    @property
    def unknown(self) -> int:
        """How many tokens to validate on are symbols that the training line never shows."""
        return int(np.count_nonzero(self.val.tokens == UNKNOWN))
