"""The wrong texts and lines that docs/bad-input.md names."""

import gzip
from pathlib import Path

import numpy as np


def prepare(folder: Path) -> None:
    """Write them."""
    text = "the quick brown fox jumps over the lazy dog. " * 60
    (folder / "t-cp1252.txt").write_bytes(("“Größe” and café. " * 40).encode("cp1252"))
    (folder / "t-office.docx").write_bytes(b"PK\3\4\x14\0" + bytes(range(256)))
    (folder / "t-paper.pdf").write_bytes(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3" + bytes(range(256)))
    np.save(folder / "t-array.npy", np.arange(100))
    (folder / "t-packed").write_bytes(gzip.compress(text.encode()))
    (folder / "t-zero.txt").write_bytes(text.encode("utf-16-le"))
    (folder / "t-torn.txt.gz").write_bytes(gzip.compress(text.encode())[:-9])
    (folder / "t-none.txt.gz").write_text("no gzip", encoding="utf-8")
    (folder / "t-bomb.txt.gz").write_bytes(gzip.compress(bytes(2**27)))
    (folder / "t-nothing.txt.gz").write_bytes(gzip.compress(b""))
    (folder / "t-folder").mkdir()
    (folder / "t-folder" / ".hidden").write_text(text, encoding="utf-8")
    (folder / "t-loop.txt").symlink_to(folder / "t-loop.txt")
    (folder / "t-lines.txt").write_text("anna\nbob\n" * 20, encoding="utf-8")
    (folder / "t-empty-lines.txt").write_text("\n \n\n", encoding="utf-8")
    (folder / "t-spaces.txt").write_text(" \t" * 40, encoding="utf-8")
    (folder / "t-one.txt").write_text("anna\n", encoding="utf-8")
    (folder / "t-two.txt").write_text("anna\nbob\n", encoding="utf-8")
    (folder / "t-single.txt").write_text("a", encoding="utf-8")
    (folder / "t-binary").write_bytes(b"\x7fELF\2\1\1" + bytes(9) + b"text")
    (folder / "t-cut.txt").write_bytes(b"\xff\xfea\0b")
    (folder / "t-loop").mkdir()
    (folder / "t-loop" / "up").symlink_to(folder / "t-loop")
    (folder / "t-texts").mkdir()
    for name in ("a.txt", "b.txt"):
        (folder / "t-texts" / name).write_text(text, encoding="utf-8")
