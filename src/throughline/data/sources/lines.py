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
    by: Literal["auto", "characters", "tokens"] = "auto"
    """What a step is: a character, or what stands between white space, such as a word or the key of a log. `auto`: what the
    codec reads, characters without one."""

    def read(self, codec: Codec | None = None) -> Corpus:
        codec = self.codec_or_default(self.codecs["symbols"] if codec is None and self.by == "tokens" else codec)
        by = "tokens" if codec.reads == "symbols" else "characters"
        if self.by not in ("auto", by):
            raise UserError(f"codec={codec.name}: does not read {self.by}; give data.by={by}, or codec=auto")
        documents, origin = read_files(self.path, "data.path", self, codec)
        sequences, empty = self._sequences(documents, by)
        if not sequences:
            raise UserError(f"{origin['source']}: all lines are empty; give a file with a sequence per line")
        parts = self.parted(sequences, lambda path, key: self._sequences(read_files(path, key, self, codec)[0], by)[0])
        origin["read"] = "; ".join([*_said(sequences, empty, by), *([origin["read"]] if "read" in origin else [])])
        return Corpus.of(codec, origin=origin, ended=True, joined=self.joined, **parts)

    @staticmethod
    def _sequences(documents: Sequence[Any], by: str) -> tuple[list[Any], int]:
        """The lines that are not empty, and the number of those that are."""
        found, empty = [], 0
        for document in documents:
            *lines, last = document.split(b"\n" if isinstance(document, bytes) else "\n")
            lines += [last] if last else []  # after the last line break nothing follows
            kept = [line for line in lines if line.strip()]
            empty += len(lines) - len(kept)
            found += [line.split() for line in kept] if by == "tokens" else kept
        return found, empty


def _said(sequences: Sequence[Any], empty: int, by: str) -> list[str]:
    lengths = [len(sequence) for sequence in sequences]
    shape = f"{min(lengths):,} to {max(lengths):,}" if min(lengths) < max(lengths) else f"{lengths[0]:,}"
    said = [f"{len(sequences):,} sequences of {shape} {by}"]
    if by == "characters" and 2 * sum(len(line.split()) > 1 for line in sequences) > len(sequences):
        said.append("most lines hold spaces: data.by=tokens reads words instead")
    if empty:
        said.append(f"{empty:,} empty lines left out")
    again = len(sequences) - len({tuple(s) if isinstance(s, list) else s for s in sequences})
    if again:
        said.append(f"{again:,} lines are there again")
    return said
