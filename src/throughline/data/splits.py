"""Splits the data into parts for training, validation and testing."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from throughline.settings import STRICT, PathStr, Probability


@dataclass(frozen=True, config=STRICT, kw_only=True)
class Splits:
    """How data are split: validation, and the test if there is one, get a part of the data or another file."""

    val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """The share of the data used for validation. A joined text gives its end, or the part before the test split. Sequences
    and many files are held out at equal distances."""
    test_fraction: Probability = 0.0
    """The share of the data kept for the test: the end, or in `StandardLibrary` spread over all files. Set it if you publish
    results: `best.ckpt` is chosen on the validation split, so its result there is a little too good."""
    val_path: PathStr | None = None
    """Another file to validate on, instead of `val_fraction`."""
    test_path: PathStr | None = None
    """Another file to test on, instead of `test_fraction`."""

    def __post_init__(self) -> None:
        if self._shares[0] <= 0:
            raise ValueError(
                f"val_fraction={self.val_fraction} and test_fraction={self.test_fraction} leave nothing to train on"
            )

    @property
    def _shares(self) -> tuple[float, float, float]:
        """The shares of train, val and test."""
        val = 0.0 if self.val_path else self.val_fraction
        test = 0.0 if self.test_path else self.test_fraction
        return 1 - val - test, val, test

    @property
    def other_files(self) -> dict[str, str]:
        """The paths of other files by the keys that name them."""
        paths = {"data.val_path": self.val_path, "data.test_path": self.test_path}
        return {key: path for key, path in paths.items() if path is not None}

    def divided(self, content: Any, read: Callable[[str, str], Any]) -> dict[str, Any]:
        """Cut a text, bytes or a list into consecutive parts; returns the parts by split.

        Args:
            content: the whole data.
            read: reads another file in the same way, given its path and the key that names it.
        """
        train, _, test = self._shares
        first, second = int(len(content) * train), int(len(content) * (1 - test))
        return self._with_files({"train": content[:first], "val": content[first:second], "test": content[second:]}, read)

    def dealt(self, parts: Sequence[Any], read: Callable[[str, str], Any]) -> dict[str, Any]:
        """Deal parts to the splits at equal distances: a split of 0.1 gets every tenth part."""
        _, val, test = self._shares
        rest, validation = _every(parts, val)
        train, held_out = _every(rest, test / (1 - val))
        return self._with_files({"train": train, "val": validation, "test": held_out}, read)

    def _with_files(self, parts: dict[str, Any], read: Callable[[str, str], Any]) -> dict[str, Any]:
        for key, path in self.other_files.items():
            parts[key.removeprefix("data.").removesuffix("_path")] = read(path, key)
        if not (self.test_fraction or self.test_path):
            del parts["test"]
        return parts


@dataclass(frozen=True, config=STRICT, kw_only=True)
class SplitsOfSequences(Splits):
    """How data of many sequences are split: each sequence lies in one split as a whole."""

    split: Literal["spread", "end"] = "spread"
    """Which sequences are held out: `spread` takes every tenth, for example, and `end` the last ones. Take `end` if the
    sequences are in order of time, and the future is to be predicted from the past."""
    joined: bool = False
    """Whether the state is carried from a sequence to the next. By default, each sequence starts from zeros. A single
    sequence is joined anyway."""

    def parted(self, sequences: Sequence[Any], read: Callable[[str, str], Any]) -> dict[str, Any]:
        """The sequences by split; `read` reads those of another file, given its path and the key that names it."""
        return self.dealt(sequences, read) if self.split == "spread" else self.divided(sequences, read)


def _every(parts: Sequence[Any], share: float) -> tuple[list[Any], list[Any]]:
    """Take a share of the parts out at equal distances; returns the rest and the parts taken out."""
    taken = np.diff(np.floor(np.arange(len(parts) + 1) * share + 1e-9)) > 0
    return [p for p, t in zip(parts, taken, strict=True) if not t], [p for p, t in zip(parts, taken, strict=True) if t]
