"""Which part of the data is trained on, validated on, and tested on."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from throughline.settings import STRICT, Probability


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Splits:
    """How data are split: the last parts of them are for validation and, where asked for, the test; or other files are."""

    val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """The share of the data that is validated on, at the end or, if there is a test split, before that."""
    test_fraction: Probability = 0.0
    """The share at the end of the data that is kept for the test. Give one where you publish a figure: `best.ckpt` is chosen
    on the validation split, so its figure there is a little too good."""
    val_path: str | None = None
    """Another file to validate on, instead of `val_fraction`."""
    test_path: str | None = None
    """Another file to test on, instead of `test_fraction`."""

    def __post_init__(self) -> None:
        if self._shares[0] <= 0:
            raise ValueError(
                f"val_fraction={self.val_fraction} and test_fraction={self.test_fraction} leave nothing to train on"
            )

    @property
    def _shares(self) -> tuple[float, float, float]:
        """Of train, val and test."""
        val = 0.0 if self.val_path else self.val_fraction
        test = 0.0 if self.test_path else self.test_fraction
        return 1 - val - test, val, test

    def divided(self, content: Any, read: Callable[[str, str], Any]) -> dict[str, Any]:
        """The parts of a text, of bytes, or of a list by split.

        Args:
            content: all that was read.
            read: reads another file alike, given its path and the key that names it.
        """
        train, _, test = self._shares
        first, second = int(len(content) * train), int(len(content) * (1 - test))
        return self._with_files({"train": content[:first], "val": content[first:second], "test": content[second:]}, read)

    def dealt(self, parts: Sequence[Any], read: Callable[[str, str], Any]) -> dict[str, Any]:
        """Lists of parts by split, so that each split has some from everywhere: every tenth is in a split of 0.1."""
        _, val, test = self._shares
        rest, validation = _every(parts, val)
        train, held_out = _every(rest, test / (1 - val))
        return self._with_files({"train": train, "val": validation, "test": held_out}, read)

    def _with_files(self, parts: dict[str, Any], read: Callable[[str, str], Any]) -> dict[str, Any]:
        for split, path in (("val", self.val_path), ("test", self.test_path)):
            if path is not None:
                parts[split] = read(path, f"data.{split}_path")
        if not (self.test_fraction or self.test_path):
            del parts["test"]
        return parts


def _every(parts: Sequence[Any], share: float) -> tuple[list[Any], list[Any]]:
    """The parts, and so large a share of them taken out at equal distances."""
    taken = np.diff(np.floor(np.arange(len(parts) + 1) * share + 1e-9)) > 0
    return [p for p, t in zip(parts, taken, strict=True) if not t], [p for p, t in zip(parts, taken, strict=True) if t]
