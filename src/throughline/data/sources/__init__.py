"""Sources read a corpus. One file per source.

A new source needs one file here, one YAML in `conf/data`, and one line in `tests/data/sources/test_every_source.py`.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from throughline.data.codecs import Codec
from throughline.data.corpus import Corpus
from throughline.plumbing.errors import UserError
from throughline.settings import plain, word


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
            allowed = ", ".join(default.name for default in self.codecs.values())
            raise UserError(f"codec={codec.name}: {self.name} has no {codec.reads}; allowed are auto, {allowed}")
        return codec

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
