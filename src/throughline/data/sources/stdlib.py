"""The embedded corpus: the source text of the running Python's own standard library."""

import hashlib
import os
import platform
import sysconfig
from pathlib import Path
from typing import ClassVar

from pydantic.dataclasses import dataclass

from throughline.data.codecs import Codec
from throughline.data.codecs.bytes import Bytes
from throughline.data.codecs.characters import Characters
from throughline.data.corpus import Corpus
from throughline.data.files import AsText, read_documents
from throughline.data.sources import Source
from throughline.data.splits import Splits
from throughline.plumbing.errors import UserError
from throughline.settings import STRICT, PositiveInt

LEFT_OUT = {"site-packages", "dist-packages", "__pycache__", "test", "tests", "idlelib", "lib2to3", "turtledemo"}
"""Folders that not every installation has, or that hold data rather than source text."""


@dataclass(frozen=True, config=STRICT)
class StandardLibrary(Splits, Source):
    """The source files of the running Python's standard library; each file is a sequence.

    Modules come before packages, and both are sorted by name. A split of 0.1 holds every tenth file. Files that are not
    UTF-8 are left out.
    """

    codecs: ClassVar = {"text": Characters(), "bytes": Bytes()}

    max_bytes: PositiveInt = 4_000_000
    """The largest total size of the files that are read."""

    def read(self, codec: Codec | None = None) -> Corpus:
        codec = self.codec_or_default(codec)
        root = Path(sysconfig.get_paths()["stdlib"])
        files: list[str | bytes] = []
        size, digest = 0, hashlib.sha256()
        for path in _files(root):
            content = path.read_bytes()
            if size + len(content) > self.max_bytes:
                break
            try:
                text = content.decode("utf-8")
            except UnicodeDecodeError:
                continue
            if text:
                files.append(content if codec.reads == "bytes" else text)
                size += len(content)
                digest.update(content)
        if len(files) < 10:
            raise UserError(
                f"data.max_bytes={self.max_bytes}: only {len(files)} files of {root} fit, 10 are needed to set one aside; "
                "give more bytes, or train on a file with data=text data.path=FILE"
            )
        as_text = None if codec.reads == "bytes" else AsText()
        parts = self.dealt(files, lambda path, key: read_documents(path, key, as_text).contents)
        origin = {
            "source": f"standard library of Python {platform.python_version()}",
            "python": platform.python_version(),
            "files": len(files),
            "bytes": size,
            "sha256": digest.hexdigest(),
        }
        return Corpus.of(codec, origin=origin, **parts)


def _files(root: Path) -> list[Path]:
    found = []
    for folder, inner, files in os.walk(root):
        inner[:] = [name for name in inner if name not in LEFT_OUT]  # not entered, because some hold thousands of files
        found += [Path(folder, name).relative_to(root) for name in files if name.endswith(".py")]
    return [root / path for path in sorted(found, key=lambda path: (len(path.parts) > 1, path.as_posix()))]
