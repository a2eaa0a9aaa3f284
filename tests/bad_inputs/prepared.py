"""The wrong texts larger than memory that docs/bad-input.md names; holes of files take no room on a disk."""

import os
from pathlib import Path

from throughline.data.long_text import LARGE, UNPACKED


def prepare(folder: Path) -> None:
    """Write them."""
    begins = {
        "p-zero.txt": b"",
        "p-cp1252.txt": "größe ".encode("cp1252") * 9000,
        "p-paper.pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3",
    }
    for name, begin in begins.items():
        (folder / name).write_bytes(begin)
        os.truncate(folder / name, LARGE)
    (folder / "p-none.txt.gz").touch()
    os.truncate(folder / "p-none.txt.gz", LARGE // UNPACKED)
    (folder / "p-file").touch()
    (folder / "p-folder").mkdir()
    (folder / "p-folder" / "1.txt").write_text("a text. " * 9, encoding="utf-8")
    (folder / "p-folder" / "2.txt").symlink_to(folder / "p-zero.txt")
