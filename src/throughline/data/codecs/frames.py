"""A step is a frame: the keys of a piano that sound, or the values of several series at one time."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from throughline.data.codecs import Codec
from throughline.plumbing.errors import UserError
from throughline.plumbing.reading import printable
from throughline.settings import STRICT, PositiveInt

LARGEST = 1e30
"""The largest number of a frame. The square of a larger one is no number of float64."""
COARSE = 1e-6
"""The share of its magnitude that the std of a feature must have: float32 has some seven digits."""


@dataclass(frozen=True, config=STRICT)
class Frames(Codec):
    """Steps are frames of F features: `multi_hot` frames of 0 and 1, or `real` ones.

    Real features are standardised: their mean in the training split becomes 0, and their std 1. So a frame of zeros, the
    first input of a sequence and what padding holds, is the mean. Sequences of frames have no end symbol.
    """

    reads: ClassVar = "frames"

    kind: Literal["auto", "multi_hot", "real"] = "auto"
    """`auto`: multi_hot if the training split holds nothing but 0 and 1. A source decides it."""
    features: PositiveInt | None = None
    """F. None: as many as the training split has."""
    names: list[str] | None = None
    """The names of the features, such as columns of a table. None: they have none."""
    mean: list[float] | None = None
    """The mean of each feature of real frames. None: that of the training split."""
    std: list[Annotated[float, Field(gt=0)]] | None = None
    """The standard deviation of each feature of real frames. None: that of the training split."""
    ended: bool = False
    """Whether sequences begin with a frame of zeros as their first input. A source of several sequences sets it."""

    def __post_init__(self) -> None:
        sizes = {len(values) for values in (self.names, self.mean, self.std) if values is not None}
        if self.fitted and (sizes | {self.features}) != {self.features}:
            raise ValueError(f"names, mean and std must have a value for each of the {self.features} features")

    @property
    def fitted(self) -> bool:
        return self.features is not None and (self.kind == "multi_hot" or (self.mean is not None and self.std is not None))

    @property
    def steps(self) -> Literal["ids", "multi_hot", "real"]:
        return "real" if self.kind == "auto" else self.kind

    @property
    def log_volume(self) -> float:
        return math.fsum(map(math.log, self.std or []))

    def fit(self, sequences: Iterable[Any]) -> Self:
        """Return the codec with the features of these sequences, their mean and their std; or itself if it has them.

        Raises:
            UserError: a feature of real frames is constant, or it varies less than float32 can hold.
        """
        if self.fitted:
            return self
        sums = Sums()
        for sequence in sequences:
            frames = _two_axes(sequence)
            self._refuse(frames, ~np.isfinite(frames), "finite numbers")
            self._refuse(frames, abs(frames) > LARGEST, f"numbers up to {LARGEST:g}")
            sums.add(frames)
        kind = ("multi_hot" if sums.binary else "real") if self.kind == "auto" else self.kind
        features = len(sums.mean)
        if self.features not in (None, features):
            raise UserError(f"codec.features={self.features}: the data have frames of {features:,} features; leave it out")
        for key, given in {"names": self.names, "mean": self.mean, "std": self.std}.items():
            if given is not None and len(given) != features:
                raise UserError(f"codec.{key}: {len(given)} values for {features} features; give one for each")
        fitted = replace(self, kind=kind, features=features)
        if kind == "multi_hot":
            return fitted
        for place, (mean, std, low, high) in enumerate(zip(sums.mean, sums.std, sums.low, sums.high, strict=True)):
            if low == high:
                raise UserError(f"data: {fitted.named(place)} is {low:g} in every frame of the training split; leave it out")
            if high - low < 1 / LARGEST:
                raise UserError(
                    f"data: {fitted.named(place)} varies by {high - low:.2g}, which float32 does not hold; multiply it by a "
                    "constant first"
                )
            if std < COARSE * max(abs(low), abs(high)):
                raise UserError(
                    f"data: {fitted.named(place)} is about {mean:g} and varies by {std:.2g}, which float32 does not hold; "
                    "subtract a constant from it first"
                )
        return replace(fitted, mean=self.mean or sums.mean.tolist(), std=self.std or sums.std.tolist())

    def named(self, place: int) -> str:
        """A feature as messages call it: by its number from 0 on, and its name if there is one."""
        return f"feature {place}" + ("" if self.names is None else f" ({printable(self.names[place], most=40)})")

    @property
    def size(self) -> int:
        """F."""
        return self.features or 0

    @property
    def width(self) -> str:
        """F in words."""
        return f"{self.size:,} feature{'s' * (self.size != 1)}"

    def with_end(self) -> Self:
        return replace(self, ended=True)

    @property
    def dtype(self) -> Any:
        return np.dtype(np.uint8 if self.kind == "multi_hot" else np.float32)

    def encode(self, raw: Any) -> np.ndarray:
        """The frames (N, F), real ones standardised.

        Raises:
            UserError: they have another number of features, or values that are no numbers, or not 0 and 1.
        """
        frames = _two_axes(raw)
        if frames.shape[1] != self.size:
            raise UserError(f"data: frames of {frames.shape[1]:,} features, and codec={self.name} has {self.size:,}")
        if self.kind == "multi_hot":
            self._refuse(frames, ~np.isin(frames, (0, 1)), "0 and 1")
            return frames.astype(np.uint8)
        self._refuse(frames, ~(abs(frames) <= LARGEST), f"numbers up to {LARGEST:g}")
        standardised: np.ndarray = (frames - np.array(self.mean)) / np.array(self.std)
        self._refuse(frames, abs(standardised) > LARGEST, f"numbers up to {LARGEST:g} times the std")
        return standardised.astype(np.float32)

    def encodes_as(self, other: Codec) -> bool:
        return isinstance(other, Frames) and self == replace(other, ended=self.ended)

    def _refuse(self, frames: np.ndarray, wrong: np.ndarray, allowed: str) -> None:
        """Refuse frames of which some values are wrong.

        Raises:
            UserError: it names the first of them by its row and its feature.
        """
        if wrong.any():
            row, column = (int(i) for i in np.argwhere(wrong)[0])
            raise UserError(f"data: row {row}, {self.named(column)} is {frames[row, column]:g}; allowed are {allowed}")

    def raw(self, steps: Any) -> np.ndarray:
        """The frames (N, F) in the units of the data, as float32, or as uint8 if they are multi-hot."""
        frames = np.asarray(steps, np.float64).reshape(-1, self.size)
        if self.kind == "multi_hot":
            return frames.astype(np.uint8)
        restored: np.ndarray = (frames * np.array(self.std) + np.array(self.mean)).astype(np.float32)
        return restored

    def prompt(self, text: Any) -> np.ndarray:
        """The frames (N, F) of a prompt, an array; without any, and before the first of a sequence, a frame of zeros."""
        frames = self.encode(np.zeros((0, self.size)) if isinstance(text, str) else text)
        zeros = np.zeros((int(self.ended or not len(frames)), self.size), self.dtype)
        return np.concatenate([zeros, frames])

    @property
    def opening(self) -> str:
        return ""

    def decode(self, ids: Iterable[Any]) -> str:
        """A line per frame: the features that are set by their names or numbers, or all values."""
        return "\n".join(self._lines(ids))

    def stream(self, ids: Iterable[Any]) -> Iterator[str]:
        return (f"{line}\n" for line in self._lines(ids))

    def _lines(self, steps: Iterable[Any]) -> Iterator[str]:
        for step in steps:
            frame = self.raw([step])[0]
            if self.kind == "multi_hot":
                yield " ".join(str(i) if self.names is None else self.names[i] for i in np.flatnonzero(frame)) or "-"
            else:
                yield " ".join(f"{value:.6g}" for value in frame.tolist())


class Sums:
    """The mean, the std and the range of each feature, from one pass over sequences (Chan 1979).

    Attributes:
        mean, low, high: (F,).
        binary: whether there was nothing but 0 and 1.
    """

    def __init__(self) -> None:
        self.count, self.binary = 0, True
        self.mean = self.squares = self.low = self.high = np.zeros(0)

    def add(self, frames: np.ndarray) -> None:
        if not frames.size:
            return
        frames = frames.astype(np.float64, copy=False)
        count, mean = len(frames), frames.mean(axis=0)
        squares = np.square(frames - mean).sum(axis=0)
        low, high = frames.min(axis=0), frames.max(axis=0)
        self.binary = self.binary and bool(np.isin(frames, (0, 1)).all())
        if not self.count:
            self.count, self.mean, self.squares, self.low, self.high = count, mean, squares, low, high
            return
        if frames.shape[1] != len(self.mean):
            sizes = f"{frames.shape[1]:,} features beside frames of {len(self.mean):,}"
            raise UserError(f"data: frames of {sizes}; give one kind")
        total, away = self.count + count, mean - self.mean
        self.squares = self.squares + squares + away * away * (self.count * count / total)
        self.mean = self.mean + away * (count / total)
        self.low, self.high, self.count = np.minimum(self.low, low), np.maximum(self.high, high), total

    @property
    def std(self) -> np.ndarray:
        std: np.ndarray = np.sqrt(self.squares / max(self.count, 1))
        return std


def _two_axes(raw: Sequence[Any] | np.ndarray) -> np.ndarray:
    """Frames (N, F) of an array; one of a single axis has one feature.

    Raises:
        UserError: it holds no numbers, or has other axes.
    """
    try:
        frames = np.asarray(raw)
    except ValueError:
        raise UserError("data: a sequence whose frames have unlike numbers of features; give every frame the same") from None
    if frames.ndim not in (1, 2) or frames.dtype.kind not in "biuf":
        raise UserError(
            f"data: an array of {frames.dtype} with shape {frames.shape}; frames are numbers in the shape (N, F)"
        )
    return frames[:, None] if frames.ndim == 1 else frames
