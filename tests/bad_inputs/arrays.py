"""The wrong arrays that docs/bad-input.md names."""

from pathlib import Path


def prepare(folder: Path) -> None:
    """Write them."""
