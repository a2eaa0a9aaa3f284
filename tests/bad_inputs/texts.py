"""The wrong texts and lines that docs/bad-input.md names."""

import gzip
from pathlib import Path


def prepare(folder: Path) -> None:
    """Write them."""
    text = "the quick brown fox jumps over the lazy dog. " * 60
    (folder / "t-cp1252.txt").write_bytes(("“Größe” and café. " * 40).encode("cp1252"))
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
    (folder / "t-one.txt").write_text("anna\n", encoding="utf-8")
