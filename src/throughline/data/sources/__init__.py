"""Sources read a corpus. One file per source.

A new source needs one file here, one YAML in `conf/data`, and one line in `tests/data/sources/test_every_source.py`.
"""

from abc import ABC, abstractmethod
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
