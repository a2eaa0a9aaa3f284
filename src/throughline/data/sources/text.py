"""Any UTF-8 text, one character a token."""

import hashlib
from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from throughline.data.corpus import Corpus
from throughline.data.sources import Source
from throughline.data.vocab import Vocab
from throughline.plumbing.errors import UserError
from throughline.settings import STRICT


@dataclass(frozen=True, config=STRICT)
class Text(Source):
    """A text file, or two: the first characters to train on, the last `val_fraction` of them (or `val_path`) to validate on.

    `separator`, where given, ends a sequence (a blank line, "\\n\\n", ends a tune or a speech) and belongs to it.
    """

    path: str
    val_path: str | None = None
    val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    separator: Annotated[str, Field(min_length=1)] | None = None

    def read(self, vocab: Vocab | None = None) -> Corpus:
        content = read_bytes(self.path, "data.path")
        text = decode(content, self.path)
        if self.val_path is None:
            cut = int(len(text) * (1 - self.val_fraction))
            train, val = text[:cut], text[cut:]
        else:
            train, val = text, decode(read_bytes(self.val_path, "data.val_path"), self.val_path)
        origin = {"source": self.path, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        return Corpus.of(self._sequences(train), self._sequences(val), origin, vocab)

    def _sequences(self, text: str) -> list[str]:
        if self.separator is None:
            return [text]
        *ended, last = text.split(self.separator)
        return [sequence + self.separator for sequence in ended] + ([last] if last else [])


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
            f"{path}: byte {error.start} (0x{content[error.start]:02x}) is not UTF-8; give a text in UTF-8"
        ) from None
