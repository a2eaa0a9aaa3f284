"""Each group of rows has its own file, so groups can be measured one at a time."""

import json
from dataclasses import asdict
from pathlib import Path

from benchmarks.measurements.figures import Row


def save(rows: list[Row], file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")


def load(file: Path) -> list[Row]:
    return [Row.from_plain(plain) for plain in json.loads(file.read_text(encoding="utf-8"))]
