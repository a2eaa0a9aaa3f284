"""Figures of several seeds: kept one run a line, and shown as a mean with half the range."""

import json
from pathlib import Path
from statistics import mean
from typing import Any


def kept(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def keep(file: Path, run: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(run) + "\n")


def shown(values: list[float], digits: int = 4) -> str:
    """A mean, and half the range over seeds; empty without values."""
    spread = f" ±{(max(values) - min(values)) / 2:.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{spread}" if values else ""
