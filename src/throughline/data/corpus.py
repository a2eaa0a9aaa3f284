"""The data of a run: a line per split, and the codec of their steps."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
        too_short: why splits are refused when they are asked for. Together they may still be enough to be scored. A training
            split is also refused if its codec knows none of its symbols.
    """

    codec: Codec
    splits: Mapping[str, Line]
    fingerprint: dict[str, Any]
    source: dict[str, Any] | None = None
    too_short: Mapping[str, str] = field(default_factory=dict)

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
        names: Mapping[str, Sequence[str]] | None = None,
    ) -> "Corpus":
        """Encode raw sequences; a codec that is not fitted yet is fitted to `train` alone.

        Args:
            codec: one that reads this kind of sequences.
            train, val, test: the sequences of each split; a test split is optional.
            origin: the origin of the data: at least a "source", the name that messages use.
            ended: whether an end symbol stands before the first sequence and after each.
            joined: whether state is carried from a sequence to the next; needed for sequences without ends.
            names: what the sequences of each split are called in the data.

        Raises:
            UserError: there is nothing to fit the codec to.
        """
        assert ended or joined, "sequences without ends cannot be told apart"
        splits, too_short = {}, {}
        if not any(map(len, train)):
            few = f"{origin['source']}: the train split has no symbol; give more data, or a smaller val_fraction"
            if not codec.fitted:
                raise UserError(few)
            too_short["train"] = few
        codec = codec.fit(train)
        if ended and codec.end is None:
            codec = codec.with_end()
        for split, sequences in (("train", train), ("val", val), ("test", test)):
            if sequences is None:
                continue
            encoded = [codec.encode(sequence) for sequence in sequences]
            if codec.end is None:
                splits[split] = Line.of(encoded)
            else:
                splits[split] = Line.with_ends(encoded, codec.end, joined, None if names is None else names[split])
            size = sum(map(len, encoded))
            if ended and not size:
                few = f"the {split} split has no symbol; give more data, or a larger {split}_fraction"
                too_short.setdefault(split, f"{origin['source']}: {few}")
            elif not ended and size < 2:
                few = f"too short: the {split} split needs at least 2 tokens and has {size}"
                too_short.setdefault(split, f"{origin['source']}: {few}")
            elif split == "train" and all((ids == UNKNOWN).all() for ids in encoded):
                few = f"the codec {codec.name} knows none of its symbols; give other data, or codec.symbols=null"
                too_short[split] = f"{origin['source']}: {few}"
        content = [line.steps.tobytes() for line in splits.values()]
        # The hash includes the lengths of all splits but the last, because the same steps may be split elsewhere.
        lengths = " ".join(str(len(part)) for part in content[:-1])
        sha256 = hashlib.sha256(b"".join([lengths.encode(), *content])).hexdigest()
        usual = defaults(type(codec))  # left out, so that a new setting changes no hash by its default
        table = {key: value for key, value in codec.to_plain().items() if key not in usual or value != usual[key]}
        symbols = hashlib.sha256(repr(table).encode()).hexdigest()
        if not joined:
            origin = {**origin, "joined": False}
        fingerprint = {**origin, "vocab": codec.size, "vocab_sha256": symbols, "tokens_sha256": sha256}
        return cls(codec, splits, fingerprint, too_short=too_short)

    @property
    def train(self) -> Line:
        return self.line("train")

    @property
    def val(self) -> Line:
        return self.line("val")

    def line(self, split: str) -> Line:
        """The line of a split; "all" gives all splits end to end.

        Raises:
            UserError: there is no such split, or it is too short.
        """
        if split == "all":
            whole = Line.end_to_end(list(self.splits.values()))
            if whole.num_targets < 1:
                raise UserError(f"{self.fingerprint['source']}: has nothing to predict; give at least 2 symbols")
            return whole
        if split in self.too_short:
            raise UserError(self.too_short[split])
        if split not in self.splits:
            hint = "; data.test_fraction or data.test_path makes a test split" if split == "test" else ""
            raise UserError(f"split={split}: the data have {', '.join(self.splits)}, or give all{hint}")
        return self.splits[split]

    def refuse_too_short(self) -> None:
        """Refuse data of which a split cannot be used.

        Raises:
            UserError: a split is too short, or the codec knows none of its training symbols.
        """
        for split in self.splits:
            self.line(split)

    @property
    def unknown(self) -> int:
        """How many validation targets are unknown to the codec: symbols that do not occur in the training data."""
        return num_unknown(self.val)


PIECE = 2**20
"""The steps that are counted at once."""


def num_unknown(line: Line) -> int:
    """How many targets of a line are unknown to its codec; the first step is none."""
    return int(np.count_nonzero(line.steps[1:] == UNKNOWN))


def num_of_each(line: Line, size: int) -> np.ndarray:
    """How often each of `size` ids is a target of a line (size,)."""
    steps, counts = line.steps[1:], np.zeros(size, np.int64)
    for start in range(0, len(steps), PIECE):  # `bincount` copies what it counts, to eight times the size
        counts += np.bincount(steps[start : start + PIECE], minlength=size)
    return counts
