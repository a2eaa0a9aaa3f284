"""Steps in an array of NumPy: categories, one-hot rows, or texts."""

import hashlib
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic.dataclasses import dataclass

from throughline.data.arrays import WHOLE, Told, read_arrays, told
from throughline.data.codecs import Codec
from throughline.data.codecs.symbols import Symbols
from throughline.data.corpus import Corpus
from throughline.data.files import read_bytes
from throughline.data.sources import Source, spread_of
from throughline.data.splits import SplitsOfSequences
from throughline.plumbing.errors import UserError
from throughline.plumbing.reading import printable
from throughline.settings import STRICT, PathStr

REST = "rest"
"""The symbol of a one-hot row without a 1."""


@dataclass(frozen=True, config=STRICT)
class Array(SplitsOfSequences, Source):
    """A `.npy` or `.npz` file. What it holds is told by its numbers, and said.

    (N,) categories or texts and (N, F) one-hot rows are one joined sequence. (S, T) categories or texts and (S, T, F)
    one-hot rows are S sequences. A category and a feature become the symbol of their number.
    """

    codecs: ClassVar = {"symbols": Symbols()}

    path: PathStr
    """The path of the file. It is read without pickles."""
    key: str | None = None
    """The array of a .npz file. None: the only one beside `lengths`."""
    lengths_path: PathStr | None = None
    """A .npy file with the length of each sequence. A .npz file may hold them as the array `lengths`."""
    padding: int | None = None
    """The category that fills up sequences at their beginnings or ends, often 0. None: there is none."""
    kind: Literal["auto", "categories", "one_hot"] = "auto"
    """What the numbers are, if it cannot be told: 0 and 1 may be categories."""
    largest: bool = False
    """Whether softened one-hot rows, with values such as 0.9995, are taken by their largest value."""

    def read(self, codec: Codec | None = None) -> Corpus:
        codec = self.codec_or_default(codec)
        where = f"data.path={self.path}"
        content = read_bytes(self.path, "data.path")
        array, lengths = self._array(content, where)
        if self.lengths_path is not None:
            of_lengths = f"data.lengths_path={self.lengths_path}"
            lengths = _chosen(read_arrays(read_bytes(self.lengths_path, "data.lengths_path"), of_lengths), None, of_lengths)
        what = told(array, where)
        if self.kind != "auto" and what.kind in WHOLE:
            what = Told(self.kind, self.kind == "one_hot" or array.ndim == 3)
        whole, said = self._sequences(array, lengths, what, where)
        origin = {"source": self.path, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), "read": said}
        one = array.ndim - what.frames == 1
        if self.padding is not None and (one or what.kind != "categories" or not (array == self.padding).any()):
            raise UserError(f"data.padding={self.padding}: is no category of the rows in {self.path}; leave it out")

        def another(path: str, key: str) -> Any:
            where = f"{key}={path}"
            other, lengths = self._array(read_bytes(path, key), where)
            _refuse_unlike(other, array, what, where)
            if self.lengths_path is not None and lengths is None:
                raise UserError(f"{where}: has no lengths; give a .npz file with an array `lengths` in it")
            return self._sequences(other, lengths, what, where)[0]

        if one:
            parts = self.divided(whole, another)
            joined: dict[str, Any] = {split: [part] for split, part in parts.items()}
            return Corpus.of(codec, origin=origin, **joined)
        return Corpus.of(codec, origin=origin, ended=True, joined=self.joined, **self.parted(whole, another))

    def _array(self, content: bytes, where: str) -> tuple[np.ndarray, np.ndarray | None]:
        """The array of a file, and the lengths of its sequences if there are any."""
        arrays = read_arrays(content, where)
        lengths = arrays.pop("lengths", None)
        array = _chosen(arrays, self.key, where)
        if array.ndim > 1 and array.shape[-1] == 1 and array.dtype.kind not in "US":
            array = array[..., 0]
        return array, lengths

    def _sequences(self, array: np.ndarray, lengths: np.ndarray | None, what: Told, where: str) -> tuple[Any, str]:
        """The symbols, of one sequence or of several, and a line about them."""
        if array.ndim - what.frames < 1 or (what.kind == "categories" and what.frames):
            raise UserError(f"{where}: (sequences, steps, features) of whole numbers; the features have to be one-hot")
        steps, table, noun = self._steps(array, what, where)
        symbols = np.array(table, dtype=object)
        if steps.ndim == 1:
            if lengths is not None:
                raise UserError(f"{where}: is one sequence, so it has no lengths; give an array (sequences, steps)")
            return symbols[steps].tolist(), f"{len(steps):,} {noun}"
        begins, ends, padding = self._bounds(steps, table, lengths, what, where)
        found = [symbols[row[a:b]].tolist() for row, a, b in zip(steps, begins.tolist(), ends.tolist(), strict=True)]
        return found, f"{len(found):,} sequences of {spread_of(found)} {noun}{padding}"

    def _steps(self, array: np.ndarray, what: Told, where: str) -> tuple[np.ndarray, list[str], str]:
        """The numbers of the symbols, the symbols by number, and what they are called."""
        if what.kind == "texts":
            texts, steps = np.unique(array, return_inverse=True)
            table = [
                text.decode("utf-8", "backslashreplace") if isinstance(text, bytes) else str(text) for text in texts.tolist()
            ]
            blank = next((text for text in table if not text.strip() and (text or array.ndim == 1)), None)
            if blank is not None:
                place = int(np.argmax(steps.ravel() == table.index(blank)))
                raise UserError(
                    f"{where}: value {place + 1:,} is {blank!r}, which is no symbol; characters are read from a text file"
                )
            return steps.reshape(array.shape), table, f"texts, {len(table) - ('' in table):,} different ones"
        if what.kind == "categories":
            values, steps = np.unique(array, return_inverse=True)
            table = [str(int(value)) for value in values.tolist()]
            return steps.reshape(array.shape), table, f"categories {table[0]} to {table[-1]}"
        features = array.shape[-1]
        if what.kind == "multi_hot":
            on = float(array.sum(axis=-1).mean())
            raise UserError(
                f"{where}: frames of {features} features, {on:.1f} set on average: multi-hot. A step has to be one symbol; "
                "0 and 1 as categories need data.kind=categories"
            )
        if what.kind == "soft" and not self.largest:
            raise UserError(
                f"{where}: softened one-hot rows, whose largest value is {array.max():.4g} rather than 1; "
                "give data.largest=true to take each by its largest value"
            )
        if what.kind == "real":
            raise UserError(f"{where}: real numbers; a step has to be one symbol, such as a category or a one-hot row")
        steps = array.argmax(axis=-1) + 1
        steps[array.max(axis=-1) <= 0] = 0
        if (what.kind == "one_hot" and ((array != 0) & (array != 1)).any()) or (array.sum(axis=-1) > 1.5).any():
            raise UserError(f"{where}: not one-hot; each row must hold a single 1 and otherwise 0")
        rest = int(np.count_nonzero(steps == 0)) if steps.ndim == 1 else 0
        noun = f"one-hot rows of {features} features" + (f", {rest:,} of them without a 1: {REST}" if rest else "")
        return steps, [REST, *map(str, range(features))], noun

    def _bounds(
        self, steps: np.ndarray, table: list[str], lengths: np.ndarray | None, what: Told, where: str
    ) -> tuple[np.ndarray, np.ndarray, str]:
        """Where each sequence begins and ends in its row, and how that was found."""
        S, T = steps.shape  # noqa: N806
        none = np.zeros(S, int)
        if lengths is not None:
            if lengths.dtype.kind not in "iu" or lengths.shape != (S,) or lengths.min() < 0 or lengths.max() > T:
                raise UserError(f"{where}: its lengths must be {S} whole numbers from 0 to {T}, one for each sequence")
            return none, lengths.astype(np.int64), ", by their lengths"
        if what.kind == "categories":
            padding = None if self.padding is None or str(self.padding) not in table else table.index(str(self.padding))
            if padding is None:
                return none, none + T, _hint(steps, table)
        else:
            padding = 0 if what.frames else table.index("") if "" in table else None
        if padding is None:
            return none, none + T, ""
        there = steps != padding
        some = there.any(axis=1)
        ends = np.where(some, T - there[:, ::-1].argmax(axis=1), 0)
        begins = none if what.kind == "texts" else np.where(some, there.argmax(axis=1), 0)
        if what.frames:  # a row without a 1 is padding at one end, the one where there are more, and a rest elsewhere
            if np.count_nonzero(begins) > np.count_nonzero(some & (ends < T)):
                ends = np.where(some, T, 0)
            else:
                begins = none
        if what.kind == "texts" and (there.sum(axis=1) != ends).any():
            raise UserError(f"{where}: an empty text stands inside a sequence; only the end of a sequence may be empty")
        cut = int(S * T - (ends - begins).sum())
        return begins, ends, f", without {cut:,} steps of padding" if cut else ""


def _chosen(arrays: dict[str, np.ndarray], key: str | None, where: str) -> np.ndarray:
    """The array with this name, or without a name the only one.

    Raises:
        UserError: there is none with this name, or there are several.
    """
    name = key if key is not None else next(iter(arrays)) if len(arrays) == 1 else None
    if name is None or name not in arrays:
        names = printable(", ".join(arrays)) or "none"
        raise UserError(f"data.key={key}: {where} has the arrays {names}; name one of them")
    return arrays[name]


def _refuse_unlike(other: np.ndarray, array: np.ndarray, what: Told, where: str) -> None:
    """Refuse data of another split that are not of the same kind and shape, except for the number of steps.

    Raises:
        UserError: they are not.
    """
    same = other.ndim == array.ndim and (not what.frames or other.shape[-1] == array.shape[-1])
    kind = told(other, where).kind
    if not same or (kind != what.kind and not {kind, what.kind} <= WHOLE):
        raise UserError(
            f"{where}: {kind} in the shape {other.shape}, but data.path has {what.kind} in {array.shape}; give one kind"
        )


def _hint(steps: np.ndarray, table: list[str]) -> str:
    """A line about zeros that stand only at the beginnings or only at the ends of rows, as padding does."""
    if "0" not in table:
        return ""
    zero = steps == table.index("0")
    first = zero & ~np.minimum.accumulate(zero, axis=1)
    last = zero & ~np.minimum.accumulate(zero[:, ::-1], axis=1)[:, ::-1]
    if zero.any(axis=1).sum() > 1 and not (first.any() and last.any()):
        return "; 0 stands only at one end of the rows: data.padding=0 takes it for padding"
    return ""
