"""Any text: one file, or one file per split."""

import hashlib
from pathlib import Path
from typing import Any, ClassVar

from pydantic.dataclasses import dataclass

from throughline.data.codecs import Codec
from throughline.data.codecs.bytes import Bytes
from throughline.data.codecs.characters import Characters
from throughline.data.corpus import Corpus
from throughline.data.sources import Source
from throughline.data.splits import Splits
from throughline.plumbing import reading
from throughline.plumbing.errors import UserError
from throughline.settings import STRICT, EscapedStr, PathStr

LARGEST_FILE = 2**40
"""The most bytes of a file of data."""


@dataclass(frozen=True, config=STRICT)
class Text(Splits, Source):
    """A text file in UTF-8; with `codec=bytes`, any file."""

    codecs: ClassVar = {"text": Characters(), "bytes": Bytes()}

    path: PathStr
    """The path of the file."""
    separator: EscapedStr | None = None
    """The text that ends a sequence and belongs to it, for example a blank line, "\\n\\n", after a speech or a tune.
    None: the text is one sequence. Only the regime `padded` uses it."""

    def read(self, codec: Codec | None = None) -> Corpus:
        codec = self.codec_or_default(codec)
        content = read_bytes(self.path, "data.path")

        def another(path: str, key: str) -> str | bytes:
            return as_read(read_bytes(path, key), codec, path)

        parts = self.divided(as_read(content, codec, self.path), another)
        origin = {"source": self.path, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        return Corpus.of(codec, origin=origin, **self._all_sequences(parts))

    def _all_sequences(self, parts: dict[str, Any]) -> dict[str, Any]:
        return {split: self._sequences(part) for split, part in parts.items()}

    def _sequences(self, text: Any) -> list[Any]:
        if self.separator is None:
            return [text]
        separator = self.separator if isinstance(text, str) else self.separator.encode()
        *ended, last = text.split(separator)
        return [sequence + separator for sequence in ended] + ([last] if last else [])


def as_read(content: bytes, codec: Codec, path: str) -> str | bytes:
    """The content of a file in the form that the codec encodes: bytes, or the decoded text."""
    return content if codec.reads == "bytes" else decode(content, path)


def read_bytes(path: str, key: str) -> bytes:
    try:
        content = reading.content(Path(path), LARGEST_FILE)
    except UserError as error:
        raise UserError(f"{key}={error}; give a readable file") from None
    if not content:
        raise UserError(f"{key}={path}: the file is empty; give a file with text")
    return content


def decode(content: bytes, path: str) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: byte {error.start} (0x{content[error.start]:02x}) is not UTF-8; give a text in UTF-8, or codec=bytes"
        ) from None
