"""Any text: a file, or one for each split."""

import hashlib
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from throughline.data.codecs import Codec
from throughline.data.codecs.bytes import Bytes
from throughline.data.codecs.characters import Characters
from throughline.data.corpus import Corpus
from throughline.data.sources import Source
from throughline.plumbing.errors import UserError
from throughline.settings import STRICT


@dataclass(frozen=True, config=STRICT)
class Text(Source):
    """A text file, or two: the last `val_fraction` of the first one (or all of `val_path`) is validated on.

    `separator`, where given, ends a sequence (a blank line, "\\n\\n", ends a tune or a speech) and belongs to it.
    The text is UTF-8, unless it is read as bytes.
    """

    codecs: ClassVar = {"text": Characters(), "bytes": Bytes()}

    path: str
    val_path: str | None = None
    val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    separator: Annotated[str, Field(min_length=1)] | None = None

    def read(self, codec: Codec | None = None) -> Corpus:
        codec = self.codec_or_default(codec)
        content = read_bytes(self.path, "data.path")
        text = as_read(content, codec, self.path)
        if self.val_path is None:
            cut = int(len(text) * (1 - self.val_fraction))
            train, val = text[:cut], text[cut:]
        else:
            train, val = text, as_read(read_bytes(self.val_path, "data.val_path"), codec, self.val_path)
        origin = {"source": self.path, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        return Corpus.of(codec, self._sequences(train), self._sequences(val), origin)

    def _sequences(self, text: Any) -> list[Any]:
        if self.separator is None:
            return [text]
        separator = self.separator if isinstance(text, str) else self.separator.encode()
        *ended, last = text.split(separator)
        return [sequence + separator for sequence in ended] + ([last] if last else [])


def as_read(content: bytes, codec: Codec, path: str) -> str | bytes:
    """The content of a file as the codec takes it: the bytes, or the text that they are."""
    return content if codec.reads == "bytes" else decode(content, path)


def read_bytes(path: str, key: str) -> bytes:
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{key}={path}: {error.strerror}; give a readable file") from None
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
