"""Steps in arrays of NumPy: categories, one-hot rows, texts, or frames."""

import hashlib
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from pydantic.dataclasses import dataclass

from throughline.data.arrays import Given, Stored, Told, by_split, end_to_end, read_arrays, told, with_lengths
from throughline.data.codecs import Codec
from throughline.data.codecs.frames import Frames
from throughline.data.codecs.symbols import Symbols
from throughline.data.corpus import Corpus
from throughline.data.files import files_of_split, read_bytes, shown
from throughline.data.sources import Source, may_be_numbers, said_of, spread_of
from throughline.data.splits import SplitsOfSequences
from throughline.plumbing.errors import UserError
from throughline.settings import STRICT, Paths, PathStr

REST = "rest"
"""The symbol of a one-hot row without a 1."""


@dataclass(frozen=True, config=STRICT)
class Array(SplitsOfSequences, Source):
    """A `.npy` or `.npz` file, or several. What it holds is told by its numbers, and said.

    (N,) categories or texts, (N, F) one-hot rows, and (N, F) frames of several ones or of real numbers are one joined
    sequence. (S, T) categories or texts, and (S, T, F) one-hot rows or frames are S sequences. A category and a one-hot row
    become the symbol of their number. A file with the arrays `train`, `valid` and `test` brings its splits.
    """

    codecs: ClassVar = {"symbols": Symbols(), "frames": Frames()}

    path: Paths
    """A file, a folder, a pattern such as `rolls/*.npy`, or a list. Of several files, each is a sequence. They are read
    without pickles."""
    key: str | None = None
    """The array of a .npz file. None: the only one beside `lengths`, or those of the splits; `arr_0`, `arr_1`, ... are
    sequences."""
    lengths_path: PathStr | None = None
    """A .npy file with the length of each sequence: of rows that are padded, or of sequences that lie end to end. A .npz
    file may hold them as the array `lengths`, or `train_len` beside `train`."""
    padding: int | None = None
    """The number that fills up sequences at their beginnings or ends, often 0. None: there is none."""
    kind: Given = "auto"
    """What the numbers are, if it cannot be told. `categories`: symbols, also 0 and 1. `multi_hot`: frames; numbers over 0
    are read as 1. `packed`: multi-hot frames as numpy.packbits writes them, 8 features in a byte. `real`: frames, also of
    whole numbers."""
    largest: bool = False
    """Whether softened one-hot rows, with values such as 0.9995, are taken by their largest value."""

    def read(self, codec: Codec | None = None) -> Corpus:
        suits = self.codec_or_default(codec)
        found = self._found(self.path, "data.path")
        first = found.splits["train"]
        of_checkpoint = suits.kind if isinstance(suits, Frames) else "auto"
        what = told(first, found.where, self.kind if self.kind != "auto" else of_checkpoint)
        if what.frames is not None and codec is None:
            suits = Frames(kind=what.frames)
        if (what.frames is None) == isinstance(suits, Frames):
            holds, other = ("frames", "categories") if what.frames else ("symbols", "multi_hot or data.kind=real")
            raise UserError(f"codec={suits.name}: {found.where} holds {holds}; give codec=auto, or data.kind={other}")
        self._refuse_splits(found)
        self._refuse_padding(first, what)
        said = ""
        one = first.lengths is None and _squeezed(first.array, what).ndim - what.features == 1
        named: dict[str, Any] = {}
        for split, stored in found.splits.items():
            sequences, how = self._sequences(stored, what, found.where_of(split), first)
            named[split] = sequences[0] if one else _named(sequences, stored)
            said = said or how + found.said

        def another(path: str, key: str) -> Any:
            other = self._found(path, key, apart=found.files > 1)
            if len(other.splits) > 1:
                raise UserError(f"{other.where}: has the splits {', '.join(other.splits)}; give it as data.path alone")
            if self.lengths_path is not None and other.splits["train"].lengths is None:
                raise UserError(f"{other.where}: has no lengths; give a .npz file with an array `lengths` in it")
            sequences, _ = self._sequences(other.splits["train"], what, other.where, first)
            return sequences[0] if one else _named(sequences, other.splits["train"])

        parts = named
        if "val" not in named:
            parts = {
                **(self.divided if one else self.parted)(named["train"], another),
                **{split: named[split] for split in named if split != "train"},
            }
        origin = {"source": shown(self.path), "bytes": found.size, "sha256": found.sha256, "read": said}
        if one:
            joined: dict[str, Any] = {split: [part] for split, part in parts.items()}
            return Corpus.of(suits, origin=origin, **joined)
        names = None
        if all(name for part in parts.values() for name, _ in part):
            names = {split: [name for name, _ in part] for split, part in parts.items()}
        parts = {split: [sequence for _, sequence in part] for split, part in parts.items()}
        return Corpus.of(suits, origin=origin, ended=True, joined=self.joined, names=names, **parts)

    def _found(self, path: str | Sequence[str], key: str, apart: bool = False) -> "Found":
        """The arrays of the files of a split, or of all splits, and where they come from.

        Args:
            apart: whether a single file is a sequence as well, as each of several is.
        """
        files, said = files_of_split(path, key, self.other_files if key == "data.path" else {})
        digest, size, by_file = hashlib.sha256(), 0, []
        for file in files:
            content = read_bytes(file, key)
            digest.update(content)
            size += len(content)
            by_file.append(by_split(read_arrays(content, f"{key}={file}"), self.key, f"{key}={file}"))
        where, splits = f"{key}={shown(path)}", by_file[0]
        if len(files) > 1 or apart:
            for file, found in zip(files, by_file, strict=True):
                if len(found) > 1 or found["train"].lengths is not None:
                    raise UserError(f"{key}={file}: holds several sequences; of several files, each is a sequence")
            splits = {"train": end_to_end([found["train"].array for found in by_file], files, where)}
        if self.lengths_path is not None and key == "data.path":
            splits = {**splits, "train": self._with_lengths(splits["train"], where)}
        return Found(splits, where, len(files), size, digest.hexdigest(), "".join(f"; {part}" for part in said))

    def _with_lengths(self, stored: Stored, where: str) -> Stored:
        of = f"data.lengths_path={self.lengths_path}"
        arrays = list(read_arrays(read_bytes(str(self.lengths_path), "data.lengths_path"), of).values())
        if len(arrays) != 1:
            raise UserError(f"{of}: holds {len(arrays)} arrays; give a file with one, the lengths")
        if stored.lengths is not None:
            raise UserError(f"{of}: {where} has lengths of its own; leave it out")
        return with_lengths(stored.array, arrays[0], where)

    def _refuse_splits(self, found: "Found") -> None:
        """Refuse settings of splits that a file brings itself."""
        for split, given in (("val", self.val_path), ("test", self.test_path or self.test_fraction)):
            if given and split in found.splits:
                setting = f"{split}_path" if isinstance(given, str) else f"{split}_fraction"
                raise UserError(f"data.{setting}={given}: {found.where} brings its own split {split}; leave it out")

    def _refuse_padding(self, stored: Stored, what: Told) -> None:
        """Refuse a number for padding that fills up no row."""
        if self.padding is None:
            return
        array = _squeezed(stored.array, what)
        there = array == self.padding
        if stored.lengths is not None or what.kind in ("one_hot", "soft", "texts") or array.ndim - what.features == 1:
            there = np.zeros(1, bool)
        if not (there.all(axis=-1) if what.features else there).any():
            of = "frame" if what.frames else "category"
            raise UserError(f"data.padding={self.padding}: is no {of} of the rows in {shown(self.path)}; leave it out")

    def _sequences(self, stored: Stored, what: Told, where: str, first: Stored) -> tuple[Sequence[Any], str]:
        """The sequences and a line about them.

        Args:
            first: the array of the training split, by which it was told what they are.
        """
        if stored is not first:
            _refuse_unlike(stored, first, what, self.kind, where)
        found, said = (
            self._frames(stored, what, where, stored is first) if what.frames else self._symbols(stored, what, where)
        )
        return found, said + stored.how

    def _frames(self, stored: Stored, what: Told, where: str, training: bool) -> tuple[list[np.ndarray], str]:
        """The sequences of frames, multi-hot ones as uint8 and real ones as float64."""
        array, hint = stored.array, ""
        if what.kind == "packed":
            array = np.unpackbits(array, axis=-1)
        elif what.kind == "multi_hot":
            if self.kind != "multi_hot" and not np.isin(array, (0, 1)).all():
                raise UserError(f"{where}: has other numbers than 0 and 1; data.kind=multi_hot takes what is over 0 for 1")
            array = (array > 0).astype(np.uint8)
        else:
            array = array.astype(np.float64)
        array = array[:, None] if array.ndim == 1 else array
        one = stored.lengths is None and array.ndim == 2
        if array.ndim == 3:
            found, hint = self._unpadded(array)
        else:
            found = [array] if stored.lengths is None else np.split(array, np.cumsum(stored.lengths)[:-1])
        if training and what.frames == "multi_hot" and not array.any():
            raise UserError(f"{where}: no feature of any frame is set, so there is nothing to learn")
        said = said_of(found, what.frames or "real", several=not one)
        if what.kind == "packed":
            said = f"packed bits; {said}"
        elif what.kind == "multi_hot" and ((stored.array != 0) & (stored.array != 1)).any():
            said += ", numbers over 0 read as 1"
        return found, said + hint

    def _unpadded(self, array: np.ndarray) -> tuple[list[np.ndarray], str]:
        """The sequences of rows without their padding, and a hint if there may be some."""
        there = (array != (self.padding or 0)).any(axis=-1)
        T = array.shape[1]  # noqa: N806
        begins = np.where(there.any(axis=1), there.argmax(axis=1), 0)
        ends = np.where(there.any(axis=1), T - there[:, ::-1].argmax(axis=1), 0)
        if self.padding is None:
            padded = np.count_nonzero(ends < T) > 1 and not begins.any()
            return list(array), "; rows end with frames of zeros: data.padding=0 takes them for padding" if padded else ""
        cut = int(array.shape[0] * T - (ends - begins).sum())
        if not cut:
            raise UserError(f"data.padding={self.padding}: no row begins or ends with frames of it; leave it out")
        found = [row[a:b] for row, a, b in zip(array, begins.tolist(), ends.tolist(), strict=True)]
        return found, f", without {cut:,} steps of padding"

    def _symbols(self, stored: Stored, what: Told, where: str) -> tuple[list[list[str]], str]:
        array = _squeezed(stored.array, what)
        steps, table, noun = self._steps(array, what, where)
        symbols = np.array(table, dtype=object)
        if stored.lengths is not None:
            found = [part.tolist() for part in np.split(symbols[steps], np.cumsum(stored.lengths)[:-1])]
            return found, f"{len(found):,} sequences of {spread_of(found)} {noun}"
        if steps.ndim == 1:
            return [symbols[steps].tolist()], f"{len(steps):,} {noun}{_as_numbers(array)}"
        begins, ends, padding = self._bounds(steps, table, what, where)
        found = [symbols[row[a:b]].tolist() for row, a, b in zip(steps, begins.tolist(), ends.tolist(), strict=True)]
        return found, f"{len(found):,} sequences of {spread_of(found)} {noun}{padding}{_as_numbers(array)}"

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
        if what.kind == "soft" and not self.largest:
            raise UserError(
                f"{where}: softened one-hot rows, whose largest value is {array.max():.4g} rather than 1; "
                "give data.largest=true to take each by its largest value"
            )
        steps = array.argmax(axis=-1) + 1
        steps[array.max(axis=-1) <= 0] = 0
        if (what.kind == "one_hot" and ((array != 0) & (array != 1)).any()) or (array.sum(axis=-1) > 1.5).any():
            raise UserError(f"{where}: not one-hot; each row must hold a single 1 and otherwise 0")
        rest = int(np.count_nonzero(steps == 0)) if steps.ndim == 1 else 0
        noun = f"one-hot rows of {features} features" + (f", {rest:,} of them without a 1: {REST}" if rest else "")
        return steps, [REST, *map(str, range(features))], noun

    def _bounds(self, steps: np.ndarray, table: list[str], what: Told, where: str) -> tuple[np.ndarray, np.ndarray, str]:
        """Where each sequence begins and ends in its row, and how that was found."""
        S, T = steps.shape  # noqa: N806
        none = np.zeros(S, int)
        if what.kind == "categories":
            padding = None if self.padding is None or str(self.padding) not in table else table.index(str(self.padding))
            if padding is None:
                return none, none + T, _hint(steps, table)
        else:
            padding = 0 if what.features else table.index("") if "" in table else None
        if padding is None:
            return none, none + T, ""
        there = steps != padding
        some = there.any(axis=1)
        ends = np.where(some, T - there[:, ::-1].argmax(axis=1), 0)
        begins = none if what.kind == "texts" else np.where(some, there.argmax(axis=1), 0)
        if what.features:  # a row without a 1 is padding at one end, the one where there are more, and a rest elsewhere
            if np.count_nonzero(begins) > np.count_nonzero(some & (ends < T)):
                ends = np.where(some, T, 0)
            else:
                begins = none
        if what.kind == "texts" and (there.sum(axis=1) != ends).any():
            raise UserError(f"{where}: an empty text stands inside a sequence; only the end of a sequence may be empty")
        cut = int(S * T - (ends - begins).sum())
        return begins, ends, f", without {cut:,} steps of padding" if cut else ""


class Found(NamedTuple):
    """The arrays of files.

    Attributes:
        splits: "train", and others if the files bring them.
        where: the setting and the path, for messages.
        said: what a person should know about the files.
    """

    splits: dict[str, Stored]
    where: str
    files: int
    size: int
    sha256: str
    said: str

    def where_of(self, split: str) -> str:
        return self.where if len(self.splits) == 1 else f"{self.where}: {split}"


def _squeezed(array: np.ndarray, what: Told) -> np.ndarray:
    """Categories without a last axis of one."""
    alone = what.kind == "categories" and array.ndim > 1 and array.shape[-1] == 1
    return array[..., 0] if alone else array


def _named(sequences: Sequence[Any], stored: Stored) -> list[tuple[str, Any]]:
    """Each sequence with its name, empty if it has none."""
    return list(zip(stored.names or [""] * len(sequences), sequences, strict=True))


def _refuse_unlike(other: Stored, first: Stored, what: Told, given: Given, where: str) -> None:
    """Refuse data of another split that are not of the same kind and shape, except for the number of steps.

    Raises:
        UserError: they are not.
    """
    array = other.array
    if array.dtype.kind not in "biuf" or what.kind == "texts":
        kind = told(other, where).kind
    elif what.kind == "multi_hot" and np.isin(array, (0, 1)).all():
        kind = what.kind  # alone, it might be one-hot
    else:
        kind = told(other, where, what.kind if what.kind in ("real", "packed") else given).kind
    same = array.ndim == first.array.ndim and (other.lengths is None) == (first.lengths is None)
    same = same and (not what.features or array.shape[-1] == first.array.shape[-1])
    if not same or (kind != what.kind and not {kind, what.kind} <= {"categories", "one_hot", "multi_hot"}):
        raise UserError(
            f"{where}: {kind} in the shape {array.shape}, but data.path has {what.kind} in "
            f"{first.array.shape}; give one kind"
        )


def _as_numbers(array: np.ndarray) -> str:
    """A hint about categories that may be numbers."""
    if array.dtype.kind not in "iuf":
        return ""
    many = may_be_numbers(len(np.unique(array)), array.size)
    return "; data.kind=real reads them as numbers" if many else ""


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
