"""Sources read a corpus. One file per source.

A new source needs one file here, one YAML in `conf/data`, and one line in `tests/data/sources/test_every_source.py`.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np

from throughline.data.codecs import Codec
from throughline.data.corpus import Corpus
from throughline.plumbing.errors import UserError
from throughline.settings import plain, targets, word


class Source(ABC):
    """Reads a corpus; the fields of a subclass are its settings.

    Attributes:
        codecs: the kinds of raw sequences that the source has, by `Codec.reads`, each with its default codec. The first is
            used for `codec=auto`.
    """

    codecs: ClassVar[dict[str, Codec]]

    @property
    def name(self) -> str:
        return word(type(self))

    @abstractmethod
    def read(self, codec: Codec | None = None) -> Corpus:
        """Read the corpus.

        Args:
            codec: encodes the data; None is the source's own choice.

        Raises:
            UserError: the data cannot be used, or not with this codec.
        """

    def codec_or_default(self, codec: Codec | None) -> Codec:
        """The given codec, or the default of the source.

        Raises:
            UserError: the source does not have the kind of sequences that the codec encodes.
        """
        if codec is None:
            return next(iter(self.codecs.values()))
        if codec.reads not in self.codecs:
            known = targets(Codec).values()  # type: ignore[type-abstract]
            allowed = ", ".join(sorted(word(cls) for cls in known if cls.reads in self.codecs))
            raise UserError(f"codec={codec.name}: {self.name} has no {codec.reads}; allowed are auto, {allowed}")
        return codec

    def under(self, root: str) -> Self:
        """The source as a command uses it whose outputs lie in the folder `root`."""
        return self

    def located(self) -> dict[str, Any]:
        """The settings as plain values, with absolute paths."""
        values = plain(self)
        for key, value in values.items():
            if key.endswith("path") and isinstance(value, str):
                values[key] = str(Path(value).absolute())
            elif key.endswith("path") and isinstance(value, list):
                values[key] = [str(Path(path).absolute()) for path in value]
        return values


def spread_of(sequences: Sequence[Any]) -> str:
    """The shortest and the longest length of sequences, in words."""
    shortest, longest = min(map(len, sequences)), max(map(len, sequences))
    return f"{longest:,}" if shortest == longest else f"{shortest:,} to {longest:,}"


HEADS = {"multi_hot": "bernoulli", "real": "mixture"}
"""The head that predicts frames of each kind."""


def said_of(frames: Sequence[np.ndarray], kind: Literal["multi_hot", "real"], several: bool) -> str:
    """What frames (n, F) hold, of one sequence or of several, in words."""
    count = f"{len(frames):,} sequences of {spread_of(frames)}" if several else f"{len(frames[0]):,}"
    features = frames[0].shape[1]
    if kind == "real":
        return f"{count} frames of {features} real number{'s' * (features != 1)}, head={HEADS[kind]}"
    on = sum(int(f.sum(dtype=np.int64)) for f in frames) / sum(map(len, frames))
    return f"{count} frames of {features} features, {on:.1f} set on average: multi-hot, head={HEADS[kind]}"


def may_be_numbers(distinct: int, count: int) -> bool:
    """Whether symbols that are all numbers are rather meant as numbers, by how many different ones there are."""
    return distinct > 100 or (distinct > 20 and 4 * distinct > count)


def generated(codec: Codec, name: str, num_symbols: int, draw: Callable[[int, int], list[str]], entropy: float) -> Corpus:
    """The corpus of generated streams whose entropy rate is known.

    Args:
        codec: encodes the symbols.
        name: of the source.
        num_symbols: the symbols to train on; the other splits have a tenth of it.
        draw: draws a stream, given the number of the split and the number of symbols.
        entropy: in nats per symbol.
    """
    sizes = num_symbols, num_symbols // 10, num_symbols // 10
    train, val, test = (draw(number, size) for number, size in enumerate(sizes))
    content = " ".join(" ".join(symbols) for symbols in (train, val, test)).encode()
    origin = {"source": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), "entropy": entropy}
    origin["read"] = f"{entropy:.4f} nats of entropy per symbol"
    return Corpus.of(codec, [train], [val], origin, [test])
