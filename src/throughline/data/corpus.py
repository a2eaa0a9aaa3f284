"""The data of a run: a line per split, and the codec of their steps."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from throughline.data.codecs import UNKNOWN, Codec, Raw
from throughline.data.line import Line
from throughline.plumbing.errors import UserError
from throughline.settings import defaults


@dataclass(frozen=True)
class Corpus:
    """The lines of the splits, their codec, and a fingerprint that identifies them.

    Attributes:
        codec: the fitted codec.
        splits: the lines of "train", "val" and, if there is one, "test".
        fingerprint: plain values: the origin of the data, the size of the vocabulary, and hashes.
        source: the settings by which it can be read again, as plain values; None for data in memory.
    """

    codec: Codec
    splits: Mapping[str, Line]
    fingerprint: dict[str, Any]
    source: dict[str, Any] | None = None

    @classmethod
    def of(
        cls,
        codec: Codec,
        train: Sequence[Raw],
        val: Sequence[Raw],
        origin: Mapping[str, Any] = {"source": "memory"},
        test: Sequence[Raw] | None = None,
        ended: bool = False,
        joined: bool = True,
    ) -> "Corpus":
        """Encode raw sequences; a codec that is not fitted yet is fitted to `train` alone.

        Args:
            codec: one that reads this kind of sequences.
            train, val, test: the sequences of each split; a test split is optional.
            origin: the origin of the data: at least a "source", the name that messages use.
            ended: whether an end symbol stands before the first sequence and after each.
            joined: whether state is carried from a sequence to the next; needed for sequences without ends.

        Raises:
            UserError: a split has fewer than two steps, so nothing to predict, or the codec knows no symbol of `train`.
        """
        assert ended or joined, "sequences without ends cannot be told apart"
        if not any(map(len, train)):
            raise UserError(f"{origin['source']}: the train split has no symbol; give more data, or a smaller val_fraction")
        codec = codec.fit(train)
        if ended and codec.end is None:
            codec = codec.with_end()
        splits = {}
        for split, sequences in (("train", train), ("val", val), ("test", test)):
            if sequences is None:
                continue
            encoded = [codec.encode(sequence) for sequence in sequences]
            size = sum(map(len, encoded))
            if ended and not size:
                raise UserError(
                    f"{origin['source']}: the {split} split has no symbol; give more data, or a larger {split}_fraction"
                )
            if not ended and size < 2:
                raise UserError(f"{origin['source']}: too short: the {split} split needs at least 2 tokens and has {size}")
            splits[split] = Line.of(encoded) if codec.end is None else Line.with_ends(encoded, codec.end, joined)
            if split == "train" and all((ids == UNKNOWN).all() for ids in encoded):
                raise UserError(f"{origin['source']}: the codec {codec.name} knows no symbol in it; give codec.symbols=null")
        content = [line.steps.tobytes() for line in splits.values()]
        # The hash includes the lengths of all splits but the last, because the same steps may be split elsewhere.
        lengths = " ".join(str(len(part)) for part in content[:-1]) + ("" if joined else " not joined")
        sha256 = hashlib.sha256(b"".join([lengths.encode(), *content])).hexdigest()
        usual = defaults(type(codec))  # left out, so that a new setting changes no hash by its default
        table = {key: value for key, value in codec.to_plain().items() if key not in usual or value != usual[key]}
        symbols = hashlib.sha256(repr(table).encode()).hexdigest()
        if not joined:
            origin = {**origin, "joined": False}
        return cls(codec, splits, {**origin, "vocab": codec.size, "vocab_sha256": symbols, "tokens_sha256": sha256})

    @property
    def train(self) -> Line:
        return self.splits["train"]

    @property
    def val(self) -> Line:
        return self.splits["val"]

    def line(self, split: str) -> Line:
        """The line of a split; "all" gives all splits end to end.

        Raises:
            UserError: there is no such split.
        """
        if split == "all":
            return Line.end_to_end(list(self.splits.values()))
        if split not in self.splits:
            hint = "; data.test_fraction or data.test_path makes a test split" if split == "test" else ""
            raise UserError(f"split={split}: the data have {', '.join(self.splits)}, or give all{hint}")
        return self.splits[split]

    @property
    def unknown(self) -> int:
        """How many validation targets are unknown to the codec: symbols that do not occur in the training data."""
        return num_unknown(self.val)


def num_unknown(line: Line) -> int:
    """How many targets of a line are unknown to its codec; the first step is none."""
    return int(np.count_nonzero(line.steps[1:] == UNKNOWN))
