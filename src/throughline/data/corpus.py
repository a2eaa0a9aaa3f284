"""The data of a run: a line per split, and the codec of their steps."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from throughline.data.codecs import Codec, Raw
from throughline.data.line import Line
from throughline.data.long_text import parts_of
from throughline.data.shards import Shards
from throughline.plumbing.errors import UserError
from throughline.settings import defaults


class Prepared(NamedTuple):
    """Where steps larger than memory were prepared.

    Attributes:
        folder: of the files.
        size: of all of them, in bytes.
        seconds: how long it took.
    """

    folder: str
    size: int
    seconds: float


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
        prepared: where the steps are, if they are mapped from files; None for steps in memory.
    """

    codec: Codec
    splits: Mapping[str, Line]
    fingerprint: dict[str, Any]
    source: dict[str, Any] | None = None
    too_short: Mapping[str, str] = field(default_factory=dict)
    prepared: Prepared | None = None

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
        write: Callable[[str, Codec, Sequence[Any]], Line] | None = None,
    ) -> "Corpus":
        """Encode raw sequences; a codec that is not fitted yet is fitted to `train` alone.

        Args:
            codec: one that reads this kind of sequences.
            train, val, test: the sequences of each split; a test split is optional.
            origin: the origin of the data: at least a "source", the name that messages use.
            ended: whether an end symbol stands before the first sequence and after each.
            joined: whether state is carried from a sequence to the next; needed for sequences without ends.
            names: what the sequences of each split are called in the data.
            write: writes the encoded sequences of a split, which have no ends, into files; None keeps them in memory.

        Raises:
            UserError: there is nothing to fit the codec to.
        """
        assert ended or joined, "sequences without ends cannot be told apart"
        if codec.reads == "frames" and isinstance(train, np.ndarray) and train.ndim < 3:
            raise UserError(f"{origin['source']}: train is an array, not a list of sequences; give [array]")
        splits, too_short = {}, {}
        if not any(map(len, train)):
            few = f"{origin['source']}: the train split has no symbol; give more data, or a smaller val_fraction"
            if not codec.fitted:
                raise UserError(few)
            too_short["train"] = few
        with _naming(origin["source"]):
            codec = codec.fit(part for sequence in train for part in parts_of(sequence, codec.cut))
        if ended and codec.end is None:
            codec = codec.with_end()
        for split, sequences in (("train", train), ("val", val), ("test", test)):
            if sequences is None:
                continue
            with _naming(f"{origin['source']}: {split} split"):
                encoded = [] if write else [codec.encode(sequence) for sequence in sequences]
            if write:
                splits[split] = write(split, codec, sequences)
                encoded = list(in_pieces(splits[split].steps))
            elif ended and codec.steps != "ids":
                splits[split] = Line.with_openings(encoded, codec.size, joined, None if names is None else names[split])
            elif codec.end is None:
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
            elif split == "train" and codec.steps == "ids" and all((ids == codec.unknown).all() for ids in encoded):
                few = f"the codec {codec.name} knows none of its symbols; give other data, or codec.symbols=null"
                too_short[split] = f"{origin['source']}: {few}"
        if codec.steps != "ids":
            origin = {**origin, "steps": codec.steps}
        # The hash includes the lengths of all splits but the last, because the same steps may be split elsewhere.
        sizes = [len(line.steps) * line.steps.dtype.itemsize for line in splits.values()]
        digest = hashlib.sha256(" ".join(map(str, sizes[:-1])).encode())
        for line in splits.values():
            for piece in in_pieces(line.steps):
                digest.update(np.ascontiguousarray(piece).view(np.uint8).data)
            if line.frames:  # the steps do not show where a sequence ends
                digest.update(line.ends.tobytes())
        if not joined:
            origin = {**origin, "joined": False}
        hashes = {"vocab_sha256": hash_of_table(codec), "tokens_sha256": digest.hexdigest()}
        fingerprint = {**origin, "vocab": codec.size, **hashes}
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

    def first(self, steps: int) -> "Corpus":
        """The first steps of the training split, or all if there are fewer, for training and validation.

        Of sequences that are not joined, whole ones: at least one.
        """
        line = self.train
        if line.joined and not line.ended:
            part = Line.of([np.asarray(line.steps[:steps])])
        else:
            count = max(1, int(np.searchsorted(line.ends, steps, side="right")))
            names = None if line.names is None else line.names[:count]
            part = replace(
                line, steps=np.asarray(line.steps[: line.ends[count - 1] + 1]), ends=line.ends[:count], names=names
            )
        digest = hashlib.sha256(f"first {steps} of {self.fingerprint['tokens_sha256']}".encode()).hexdigest()
        return replace(self, splits={"train": part, "val": part}, fingerprint={**self.fingerprint, "tokens_sha256": digest})

    def refuse_too_short(self) -> None:
        """Refuse data of which a split cannot be used.

        Raises:
            UserError: a split is too short, or the codec knows none of its training symbols.
        """
        for split in self.splits:
            self.line(split)

    @property
    def unknown(self) -> int:
        """How many validation targets are unknown to the codec: not in the training data, or rare words."""
        return num_unknown(self.val, self.codec)


@contextmanager
def _naming(source: str) -> Iterator[None]:
    """Name the data in the message of a codec, which calls them `data`."""
    try:
        yield
    except UserError as error:
        message = str(error)
        if not message.startswith("data: "):
            raise
        raise UserError(f"{source}: {message.removeprefix('data: ')}") from None


def hash_of_table(codec: Codec) -> str:
    """Identifies the table of a codec; settings at their defaults are left out, so that a new one changes no hash."""
    usual = defaults(type(codec))
    table = {key: value for key, value in codec.to_plain().items() if key not in usual or value != usual[key]}
    return hashlib.sha256(repr(table).encode()).hexdigest()


PIECE = 2**20
"""The steps that are counted at once."""


def in_pieces(steps: np.ndarray) -> Iterator[np.ndarray]:
    """Steps, `PIECE` at a time; those of a file are read."""
    return (np.asarray(steps[start : start + PIECE]) for start in range(0, len(steps), PIECE))


def num_unknown(line: Line, codec: Codec) -> int:
    """How many targets of a line are unknown to its codec; the first step is none, and no frame is unknown."""
    if line.frames or isinstance(line.steps, Shards):  # nor is an id of a token file, and to look would read all of them
        return 0
    return sum(int(np.count_nonzero(piece == codec.unknown)) for piece in in_pieces(line.steps[1:]))


def num_of_each(line: Line, size: int) -> np.ndarray:
    """How often each of `size` ids is a target of a line (size,)."""
    counts = np.zeros(size, np.int64)
    for piece in in_pieces(line.steps[1:]):  # `bincount` copies what it counts, to eight times the size
        counts += np.bincount(piece, minlength=size)
    return counts
