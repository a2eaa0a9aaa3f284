"""A sequence per line: names, molecules, sentences, sessions of a log."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic.dataclasses import dataclass

from throughline.data.codecs import Codec
from throughline.data.codecs.bytes import Bytes
from throughline.data.codecs.characters import Characters
from throughline.data.codecs.symbols import Symbols
from throughline.data.corpus import Corpus
from throughline.data.files import AsText
from throughline.data.sources import Source
from throughline.data.sources.text import read_files
from throughline.data.splits import SplitsOfSequences
from throughline.plumbing.errors import UserError
from throughline.settings import STRICT, PathStr


@dataclass(frozen=True, config=STRICT)
class Lines(AsText, SplitsOfSequences, Source):
    """The lines of a text; empty ones are left out."""

    codecs: ClassVar = {"text": Characters(), "symbols": Symbols(), "bytes": Bytes()}

    path: PathStr | list[PathStr]
    """A file, a folder, a pattern such as `logs/*.txt`, or a list. A file may be compressed (.gz, .bz2, .xz)."""
    by: Literal["characters", "tokens"] = "characters"
    """What a step is: a character, or what stands between white space, such as a word or the key of a log."""

    def read(self, codec: Codec | None = None) -> Corpus:
        if codec is None:
            codec = self.codecs["symbols" if self.by == "tokens" else "text"]
        codec = self.codec_or_default(codec)
        if (codec.reads == "symbols") != (self.by == "tokens"):
            other = "tokens" if codec.reads == "symbols" else "characters"
            raise UserError(f"codec={codec.name}: does not read {self.by}; give data.by={other}, or codec=auto")
        documents, origin = read_files(self.path, "data.path", self, codec)
        sequences, empty = self._sequences(documents)
        if not sequences:
            raise UserError(f"{origin['source']}: all lines are empty; give a file with a sequence per line")
        parts = self.parted(sequences, lambda path, key: self._sequences(read_files(path, key, self, codec)[0])[0])
        origin["read"] = "; ".join(self._said(sequences, empty))
        return Corpus.of(codec, origin=origin, ended=True, joined=self.joined, **parts)

    def _sequences(self, documents: Sequence[Any]) -> tuple[list[Any], int]:
        """The lines that are not empty, and the number of those that are."""
        lines = [line for document in documents for line in document.split(b"\n" if isinstance(document, bytes) else "\n")]
        found = [line for line in lines if line.strip()]
        empty = len(lines) - len(found) - len(documents)  # after the last line break nothing follows
        return [line.split() for line in found] if self.by == "tokens" else found, max(empty, 0)

    def _said(self, sequences: Sequence[Any], empty: int) -> list[str]:
        lengths = [len(sequence) for sequence in sequences]
        shape = f"{min(lengths):,} to {max(lengths):,}" if min(lengths) < max(lengths) else f"{lengths[0]:,}"
        said = [f"{len(sequences):,} sequences of {shape} {self.by}"]
        spaced = sum(len(line.split()) > 1 for line in sequences) if self.by == "characters" else 0
        if 2 * spaced > len(sequences):
            said.append("most lines hold spaces: data.by=tokens reads words instead")
        if empty:
            said.append(f"{empty:,} empty lines left out")
        again = len(sequences) - len({tuple(s) if isinstance(s, list) else s for s in sequences})
        if again:
            said.append(f"{again:,} lines are there again")
        return said
