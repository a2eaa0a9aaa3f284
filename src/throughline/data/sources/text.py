"""Any text: a file, or several as documents; joined, or cut into sequences."""

import hashlib
from collections.abc import Sequence
from dataclasses import field
from typing import Any, ClassVar

from pydantic.dataclasses import dataclass

from throughline.data.codecs import Codec
from throughline.data.codecs.bytes import Bytes
from throughline.data.codecs.characters import Characters
from throughline.data.corpus import Corpus
from throughline.data.files import AsText, files_of, read_bytes
from throughline.data.sources import Source
from throughline.data.splits import SplitsOfSequences
from throughline.plumbing.errors import UserError
from throughline.settings import STRICT, EscapedStr, PathStr


@dataclass(frozen=True, config=STRICT)
class Text(AsText, SplitsOfSequences, Source):
    """A text, or several; with `codec=bytes`, any files."""

    codecs: ClassVar = {"text": Characters(), "bytes": Bytes()}

    path: PathStr | list[PathStr]
    """A file, a folder, a pattern such as `texts/*.txt`, or a list. Several files are read in order of their names. A file
    may be compressed (.gz, .bz2, .xz)."""
    separator: EscapedStr | None = None
    """The text that ends a sequence, for example a blank line, "\\n\\n", after a speech or a tune. None: each file is one
    sequence. In joined data it belongs to the sequence, and only the regime `padded` uses the ends."""
    joined: bool = field(default=True, kw_only=True)
    """Whether the state is carried from a sequence to the next. Give false if each sequence has to start from zeros."""

    def read(self, codec: Codec | None = None) -> Corpus:
        codec = self.codec_or_default(codec)
        documents, origin = read_files(self.path, "data.path", self, codec)
        if self.joined:
            parts = self.divided(
                laid_together(documents), lambda path, key: laid_together(read_files(path, key, self, codec)[0])
            )
            split: dict[str, Any] = {name: self._with_separator(part) for name, part in parts.items()}
            return Corpus.of(codec, origin=origin, **split)
        if self.separator is None and len(documents) == 1:
            raise UserError("data.joined=false: the text is one sequence; give data.separator, or several files")
        sequences = self._apart(documents)
        parts = self.parted(sequences, lambda path, key: self._apart(read_files(path, key, self, codec)[0]))
        origin["read"] = f"{len(sequences):,} sequences"
        return Corpus.of(codec, origin=origin, ended=True, joined=False, **parts)

    def _with_separator(self, text: Any) -> list[Any]:
        """The sequences of joined data, each with the separator that ends it."""
        if self.separator is None:
            return [text]
        separator = self.separator if isinstance(text, str) else self.separator.encode()
        *ended, last = text.split(separator)
        return [sequence + separator for sequence in ended] + ([last] if last else [])

    def _apart(self, documents: Sequence[Any]) -> list[Any]:
        """The sequences without separators; empty ones are left out."""
        if self.separator is None:
            return [document for document in documents if document]
        pieces = [d.split(self.separator if isinstance(d, str) else self.separator.encode()) for d in documents]
        return [piece for document in pieces for piece in document if piece.strip()]


def read_files(path: str | Sequence[str], key: str, as_text: AsText, codec: Codec) -> tuple[list[Any], dict[str, Any]]:
    """The contents of the files that a setting names, as the codec encodes them, and their origin.

    Raises:
        UserError: a file cannot be read, or is no text.
    """
    files = files_of(path, key)
    digest, size, carriage_returns = hashlib.sha256(), 0, 0
    contents: list[Any] = []
    for file in files:
        content = read_bytes(file, key)
        digest.update(content)
        size += len(content)
        if codec.reads == "bytes":
            contents.append(content)
        else:
            carriage_returns += content.count(b"\r") if as_text.newline == "lf" else 0
            contents.append(as_text.decoded(content, file))
    shown = path if isinstance(path, str) else ", ".join(path)
    origin: dict[str, Any] = {"source": shown, "bytes": size, "sha256": digest.hexdigest()}
    if len(files) > 1:
        origin |= {"files": len(files), "read": f"{len(files)} files in order of their names"}
    if carriage_returns:
        said = "the line breaks of Windows are read as line feeds"
        origin["read"] = f"{origin['read']}; {said}" if "read" in origin else said
    return contents, origin


def laid_together(documents: list[Any]) -> Any:
    """Several texts, or several files of bytes, as one."""
    return documents[0] if len(documents) == 1 else documents[0][:0].join(documents)
