"""Any text: a file, or several as documents; joined, or cut into sequences."""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic.dataclasses import dataclass

from throughline.data.codecs import Codec
from throughline.data.codecs.bytes import Bytes
from throughline.data.codecs.characters import Characters
from throughline.data.corpus import Corpus
from throughline.data.files import AsText, Documents, files_of, in_memory, read_documents
from throughline.data.long_text import LARGE, LongText, cut_of, size_on_disk
from throughline.data.sources import Source, spread_of
from throughline.data.splits import Splits
from throughline.data.store import Store, prepared
from throughline.plumbing import progress
from throughline.plumbing.errors import UserError
from throughline.settings import STRICT, EscapedStr, Paths, PathStr

MANY_FILES = 10
"""From so many files on, whole ones are held out."""


@dataclass(frozen=True, config=STRICT)
class Text(AsText, Splits, Source):
    """A text, or several; with `codec=bytes`, any files."""

    codecs: ClassVar = {"text": Characters(), "bytes": Bytes()}

    path: Paths
    """A file, a folder, a pattern such as `texts/*.txt`, or a list. Several files are read in order of their names. A file
    may be compressed (.gz, .bz2, .xz)."""
    separator: EscapedStr | None = None
    """The text that ends a sequence, for example a blank line, "\\n\\n", after a speech or a tune. None: each file is one
    sequence. In joined data it belongs to the sequence, and only the regime `padded` uses the ends."""
    joined: bool = True
    """Whether the state is carried from a sequence to the next. Give false if each sequence has to start from zeros; an end
    symbol then takes the place of the separator, and of its line if it stands on one of its own."""
    split: Literal["auto", "spread", "end"] = "auto"
    """What is held out. `spread`: whole files, or sequences that are not joined, at equal distances, such as every tenth.
    `end`: the end of the text, or the last sequences. `auto`: `end` for joined texts of less than ten files, or of too few
    for each split to get one; otherwise `spread`."""
    newline: Literal["lf", "keep"] = "lf"
    """`lf` reads the line breaks of Windows as line feeds; `keep` leaves them as they are. `codec=bytes` always does."""

    prepared_path: PathStr | None = None
    """The folder in which joined texts of 64 MB or more are encoded once, and from which they are then read part by part.
    None: `prepared` in `output_root`."""

    def under(self, root: str) -> Self:
        return self if self.prepared_path else replace(self, prepared_path=str(Path(root, "prepared")))

    def read(self, codec: Codec | None = None) -> Corpus:
        codec = self.codec_or_default(codec)
        files = {key: files_of(path, key) for key, path in {"data.path": self.path, **self.other_files}.items()}
        size = size_on_disk(name for names in files.values() for name in names)
        if size < LARGE or not self.joined or self.separator is not None or codec.end is not None:
            return self._read(codec)
        if codec.fitted:
            codec = codec.fit([])  # what is prepared depends on the content of a file that it names

        def make(store: Store) -> Corpus:
            progress.advance(0, more=size * (2 if codec.fitted else 3))  # it is checked, fitted to, and encoded
            return self._read(codec, store)

        settings = {key: value for key, value in self.located().items() if key != "prepared_path"}
        return prepared(Path(self.prepared_path or "outputs/prepared"), settings, codec, files, make)

    def _read(self, codec: Codec, store: Store | None = None) -> Corpus:
        """Read the corpus into memory, or into the store."""
        as_text = None if codec.reads == "bytes" else self
        read = in_memory if store is None else LongText.scanned
        documents = read_documents(self.path, "data.path", as_text, self.newline, self.other_files, read)

        def another(path: str, key: str) -> list[Any]:
            return read_documents(path, key, as_text, self.newline, read=read).contents

        parts, how = self._joined(documents, another, codec) if self.joined else self._apart(documents, another)
        said = "; ".join([*documents.said, *how])
        origin = {**documents.origin, "read": said} if said else documents.origin
        write = None if store is None else store.line
        return Corpus.of(codec, origin=origin, ended=not self.joined, joined=self.joined, write=write, **parts)

    def _joined(
        self, documents: Documents, another: Callable[[str, str], Any], codec: Codec
    ) -> tuple[dict[str, Any], list[str]]:
        """The sequences by split, each with the separator that ends it, and what a person should know about the splits."""
        texts = documents.contents
        if self.split == "spread" and len(texts) == 1:
            raise UserError(
                "data.split=spread: one joined text is cut at its end; "
                "give several files, or data.joined=false with data.separator"
            )
        smallest = min((share for share in self._shares[1:] if share), default=0.0)
        enough = len(texts) >= MANY_FILES and len(texts) * smallest > 1 - 1e-9  # so that each split gets one
        whole = self.split == "spread" or (self.split == "auto" and enough)
        parts = self.dealt(texts, another) if whole else self._cut(texts, another, codec)
        how = ["whole files are held out, at equal distances"] if whole else []
        return {split: [s for text in part for s in self._with_separator(text)] for split, part in parts.items()}, how

    def _cut(self, documents: list[Any], read: Callable[[str, str], Any], codec: Codec) -> dict[str, Any]:
        """The documents by split, cut where they are laid end to end; one across a cut is in both splits."""
        begins = np.cumsum([0, *map(len, documents)]).tolist()
        size = begins.pop()
        parts = self.divided(range(size), read)

        def between_steps(place: int) -> int:
            number = bisect_right(begins, place) - 1
            before = documents[number][: place - begins[number]]
            return place if place == size else begins[number] + (cut_of(before, codec.cut) or len(before))

        for split, span in parts.items():
            if isinstance(span, range):
                start, stop = between_steps(span.start), between_steps(span.stop)
                places = [(max(start - b, 0), max(stop - b, 0)) for b in begins]
                pieces = [text[first:last] for text, (first, last) in zip(documents, places, strict=True)]
                parts[split] = [piece for piece in pieces if piece] or pieces[:1]
        return parts

    def _with_separator(self, text: Any) -> list[Any]:
        """The sequences of joined data, each with the separator that ends it."""
        if self.separator is None:
            return [text]
        separator = self._like(text)
        *ended, last = text.split(separator)
        return [sequence + separator for sequence in ended] + ([last] if last else [])

    def _like(self, text: Any) -> Any:
        """The separator as text or as bytes."""
        return self.separator if isinstance(text, str) or self.separator is None else self.separator.encode()

    def _apart(self, documents: Documents, another: Callable[[str, str], Any]) -> tuple[dict[str, Any], list[str]]:
        """The sequences by split, without separators, and what a person should know about them."""
        source, texts = documents.origin["source"], documents.contents
        sequences = self._between(texts)
        if self.separator is None and len(texts) == 1:
            raise UserError(
                f"data.joined=false: {source} is one sequence; give data.separator or several files, or data=lines"
            )
        if self.separator is not None and len(sequences) <= len(texts):
            raise UserError(
                f"data.separator={self.separator!r}: separates nothing in {source}; give the text between its sequences"
            )
        deal = self.divided if self.split == "end" else self.dealt
        unit = "characters" if isinstance(sequences[0], str) else "bytes"
        how = [f"{len(sequences):,} sequences of {spread_of(sequences)} {unit}"]
        return deal(sequences, lambda path, key: self._between(another(path, key))), how

    def _between(self, texts: list[Any]) -> list[Any]:
        """What stands between separators; what is blank is left out."""
        return texts if self.separator is None else [p for text in texts for p in self._pieces(text) if p.strip()]

    def _pieces(self, text: Any) -> list[Any]:
        separator: Any = self._like(text)
        end: Any = "\n" if isinstance(text, str) else b"\n"
        lines: list[Any] = (end + text.removesuffix(end) + end).split(end + separator + end)
        if end not in separator and len(lines) > text.count(separator):  # it takes the line with it on which it stands
            lines[0] = lines[0].removeprefix(end)
            return [*lines[:-1], lines[-1].removesuffix(end)]
        # The line break that ends a file is no part of a sequence, where all other sequences end before a line break.
        *pieces, last = text.split(separator)
        return [*pieces, last.removesuffix(end) if separator.startswith(end) else last]
