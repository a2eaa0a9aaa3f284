"""Reads arrays of NumPy, and tells by their numbers what they hold."""

import io
import itertools
import math
import re
import zipfile
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from throughline.plumbing.errors import UserError
from throughline.plumbing.reading import printable
from throughline.settings import LARGEST_INT

MOST_BYTES = 2**32
"""The bytes of an array in a compressed file; more could fill the memory."""

Kind = Literal["categories", "one_hot", "soft", "multi_hot", "packed", "real", "texts"]
Given = Literal["auto", "categories", "one_hot", "multi_hot", "packed", "real"]
"""What a person may say that numbers are; `auto` tells."""

OTHERS = {b"MATLAB": "a MATLAB", b"\x89HDF": "an HDF5", b"MThd": "a MIDI"}
"""Other files that hold arrays or music, by their first bytes."""

MOSTLY = 0.9
"""The share of rows with a single 1 above which the others are taken for mistakes."""
SPARSE = 0.2
"""The share of numbers over 0 below which a roll is told by its shape."""
KEYS = (88, 128)
"""The features of piano rolls: the keys of a piano, and the notes of MIDI."""


class Stored(NamedTuple):
    """An array as it lies in a file.

    Attributes:
        array: (N,), (N, F), (S, T) or (S, T, F).
        lengths: (S,) of the sequences that lie end to end in `array`; None if it is one, or if its rows are sequences.
        names: what these sequences are called; None if they have no names.
        how: how the sequences were found, behind a comma.
    """

    array: np.ndarray
    lengths: np.ndarray | None = None
    names: list[str] | None = None
    how: str = ""

    def at(self, place: Sequence[int]) -> str:
        """A place in words."""
        if self.lengths is None:
            return _at(place, "row {}")
        ends = np.cumsum(self.lengths)
        number = int(np.searchsorted(ends, place[0], side="right"))
        name = f"sequence {number}" if self.names is None else printable(self.names[number])
        return _at([int(place[0] - ends[number] + self.lengths[number]), *place[1:]], f"{name}, row {{}}")


class Told(NamedTuple):
    """What an array holds.

    Attributes:
        kind: `soft` is one-hot with values such as 0.9995; `multi_hot` has several ones in a row; `packed` is multi-hot, and
            a byte holds 8 features, as `numpy.packbits` writes them.
        features: whether the last axis holds the features of a step.
    """

    kind: Kind
    features: bool

    @property
    def frames(self) -> Literal["multi_hot", "real"] | None:
        """The kind of the frames that are the steps; None if a step is a symbol."""
        return "multi_hot" if self.kind in ("multi_hot", "packed") else "real" if self.kind == "real" else None


def read_arrays(content: bytes, where: str) -> dict[str, np.ndarray]:
    """The arrays of a .npz file by name, or the one of a .npy file under an empty name; nothing is unpickled.

    Raises:
        UserError: it holds no arrays that can be read safely.
    """
    if content[:4] != b"PK\3\4":
        return {"": _array(content, where)}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
            if sum(info.file_size for info in members) > MOST_BYTES:
                raise UserError(f"{where}: its arrays take more than {MOST_BYTES:,} bytes; give them as .npy")
            found = {}
            for info in members:
                name = info.filename.removesuffix(".npy")
                with archive.open(info) as file:
                    found[name] = _array(file.read(info.file_size + 1), f"{where}: {printable(name)}")
            return found
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, RuntimeError, ValueError, IndexError) as error:
        raise UserError(f"{where}: cannot be read as .npz: {printable(error, most=100)}") from None


def _array(content: bytes, where: str) -> np.ndarray:
    file = io.BytesIO(content)
    if content.startswith(b"\x80"):
        raise UserError(f"{where}: a pickle, which is never read, because it may run any program; save it with numpy.save")
    known = next((what for first, what in OTHERS.items() if content.startswith(first)), None)
    if known is not None:
        raise UserError(f"{where}: {known} file, not an array of NumPy; docs/data.md has the lines that convert it")
    if not content.startswith(b"\x93NUMPY"):
        raise UserError(f"{where}: no array of NumPy; give a .npy or .npz file, or data=table, data=lines or data=text")
    try:
        version = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(file)
        if dtype.hasobject:
            raise UserError(
                f"{where}: holds Python objects, as arrays of unlike lengths do; they are not read. Save each sequence "
                "as an array, numpy.savez(FILE, *sequences), or text lines for data=lines"
            )
        if math.prod(shape) * dtype.itemsize != len(content) - file.tell():  # before memory is taken for it
            raise UserError(f"{where}: its header claims the shape {shape}, which is not the size of the file")
        array: np.ndarray = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError, TypeError, SyntaxError) as error:
        raise UserError(f"{where}: no array that can be read safely: {printable(error, most=100)}") from None
    return array


SPLIT = re.compile(r"(?:x_)?(train|valid|val|validation|dev|test)(?:_?data|_x)?", re.IGNORECASE)
"""How the array of a split is called in a file with all of them."""
LENGTHS = re.compile(r"(?:(.+)_)?(?:len|lens|length|lengths)(?:_(.+))?", re.IGNORECASE)
"""How the lengths of its sequences are called."""
NUMBERED = re.compile(r"(.*?)[_/.-]?(\d+)")
"""How the arrays of sequences are called that are stored one by one, such as `arr_0` and `arr_1`."""


def by_split(arrays: Mapping[str, np.ndarray], key: str | None, where: str) -> dict[str, Stored]:
    """The arrays of a file by split; as "train" alone if it has no splits.

    A split is an array whose name says so, as `train`, or several with numbers, as `train_0` and `train_1`. Its lengths are
    the array `train_len`, `train_lengths` or `lengths_train`; those of a file without splits are called `lengths`.

    Args:
        arrays: by name.
        key: the name of the array to take. None: the only one, or those with numbers, or those of all splits.
        where: the file, for messages.

    Raises:
        UserError: there is no such array, or there are several, and their names do not tell which to take.
    """
    lengths: dict[str, np.ndarray] = {}
    groups: dict[str, list[str]] = {}
    for name, array in arrays.items():
        of, numbered = LENGTHS.fullmatch(name), NUMBERED.fullmatch(name)
        if of is not None and array.ndim == 1 and name != key:
            lengths[of[1] or of[2] or ""] = array
        elif key is None:
            groups.setdefault(numbered[1] if numbered else name, []).append(name)
        elif name == key:
            groups[key] = [key]
    splits = {group: found for group in groups if (found := SPLIT.fullmatch(group))}
    if 1 < len(groups) == len(splits):
        named = {_split(found[1]): group for group, found in splits.items()}
        if len(named) == len(groups) and "train" in named and "" not in lengths:
            one_by_one = any(len(names) > 1 for names in groups.values())  # in each split, also if it has a single one
            parts = {}
            for split, group in named.items():
                at = f"{where}: {group}"
                parts[split] = _together(
                    arrays, groups[group], lengths.get(group), at, one_by_one and [group] != groups[group]
                )
            return {split: parts[split] for split in ("train", "val", "test") if split in parts}
    if len(groups) != 1:
        listed = printable(", ".join(itertools.chain(*groups.values()) if groups else arrays), most=300) or "none"
        raise UserError(f"data.key={key}: {where} has the arrays {listed}; name one of them")
    group, names = next(iter(groups.items()))
    return {"train": _together(arrays, names, lengths.get(group, lengths.get("")), where, len(names) > 1)}


def _split(name: str) -> str:
    return {"valid": "val", "validation": "val", "dev": "val"}.get(name.lower(), name.lower())


def _together(
    arrays: Mapping[str, np.ndarray], names: Sequence[str], lengths: np.ndarray | None, where: str, one_by_one: bool
) -> Stored:
    """The array of this name, or sequences stored one by one, in order of their numbers, laid end to end."""
    if not one_by_one:
        return with_lengths(arrays[names[0]], lengths, where)
    ordered = sorted(names, key=lambda name: int(NUMBERED.fullmatch(name)[2]))  # type: ignore[index]
    return end_to_end([arrays[name] for name in ordered], ordered, where)


def with_lengths(array: np.ndarray, lengths: np.ndarray | None, where: str) -> Stored:
    """An array whose sequences have these lengths: its rows, which are padded, or its parts, which lie end to end.

    Frames of NaN at the ends of rows are padding as well.

    Raises:
        UserError: the lengths are not those of the array.
    """
    how = ", by their lengths"
    if lengths is None and array.ndim == 3 and array.dtype.kind == "f":
        there = ~np.isnan(array).all(axis=-1)
        until = array.shape[1] - there[:, ::-1].argmax(axis=1)
        if not there.all() and there.any(axis=1).all() and until.sum() == np.count_nonzero(there):
            lengths, how = until, f", without {np.count_nonzero(~there):,} steps of padding (nan)"
    if lengths is None or not 1 <= array.ndim <= 3:
        return Stored(array)
    whole = lengths.dtype.kind in "iu" and lengths.ndim == 1 and (lengths >= 0).all()
    if whole and array.ndim < 3 and lengths.sum() == len(array) and not (array.ndim == 2 and len(lengths) == len(array)):
        return Stored(array, lengths.astype(np.int64), how=how)
    if array.ndim == 1:
        raise UserError(f"{where}: its lengths must be whole numbers that add up to its {len(array):,} steps")
    S, T = array.shape[:2]  # noqa: N806
    if not whole or lengths.shape != (S,) or lengths.max(initial=0) > T:
        end_to_end = "" if array.ndim == 3 else f", or add up to {S:,}"
        raise UserError(
            f"{where}: its lengths must be {S:,} whole numbers from 0 to {T:,}, one for each sequence{end_to_end}"
        )
    return Stored(array[np.arange(T) < lengths[:, None]], lengths.astype(np.int64), how=how)


def end_to_end(arrays: Sequence[np.ndarray], names: Sequence[str], where: str) -> Stored:
    """Arrays that hold a sequence each, as one.

    Raises:
        UserError: one has another number of axes or features than the first, or holds several sequences.
    """
    first = arrays[0]
    for name, array in zip(names, arrays, strict=True):
        if not 1 <= array.ndim <= 2:
            raise UserError(
                f"{where}: {printable(name)} has the shape {array.shape}; of several arrays, each is a sequence: "
                "(steps,) or (steps, features)"
            )
        unlike = (array.dtype.kind in "US") != (first.dtype.kind in "US")
        if array.ndim != first.ndim or array.shape[1:] != first.shape[1:] or unlike:
            raise UserError(
                f"{where}: {printable(name)} has the shape {array.shape} ({array.dtype}), and {printable(names[0])} "
                f"{first.shape} ({first.dtype}); give sequences of one kind"
            )
    return Stored(np.concatenate(arrays), np.array([len(array) for array in arrays]), list(names))


def told(stored: Stored, where: str, given: Given = "auto") -> Told:
    """What an array holds: what a person gave, or else by its type, its shape and its numbers.

    Raises:
        UserError: it can hold no steps, or not what was given.
    """
    array = stored.array
    if array.dtype.kind in "US":
        if array.ndim > 2 or (array.ndim == 2 and stored.lengths is not None):
            raise _refused(array, where)
        if given not in ("auto", "categories"):
            raise UserError(f"data.kind={given}: {where} holds texts; leave it out")
        return Told("texts", False)
    if array.dtype.kind not in "biuf" or not 1 <= array.ndim <= 3 or not array.size:
        raise _refused(array, where)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise UserError(f"{where}: {stored.at(place)} is {array[place]}; give finite numbers")
    whole = array.dtype.kind != "f" or bool(((array == np.floor(array)) & (abs(array) < np.float64(LARGEST_INT))).all())
    if given in ("auto", "multi_hot") and _packed(array):
        return Told("packed", True)
    if given != "auto":
        _refuse_unlike_given(stored, whole, where, given)
        if given == "one_hot" and not whole:
            return Told("soft", True)
        return Told(given, given != "categories" and array.ndim > 1)
    if array.ndim == 1 or (whole and array.shape[-1] == 1):
        return Told("categories" if whole else "real", False)
    filled = np.count_nonzero(array) / array.size
    features = stored.lengths is not None or array.ndim == 3  # for certain
    if not features and filled < SPARSE and array.shape[0] in KEYS and array.shape[1] not in KEYS:
        raise UserError(
            f"{where}: {array.shape[0]} rows and {array.shape[1]:,} columns, mostly zeros: a piano roll with the time last? "
            "Save it transposed; data.kind=multi_hot takes each row for a frame as it stands"
        )
    ones = array.sum(axis=-1, dtype=np.float64)
    if whole and array.min() >= 0 and array.max() <= 1:
        single = ones <= 1
        if single.all() and 2 * np.count_nonzero(ones) >= ones.size:
            return Told("one_hot", True)
        if not single.all() and (ones == 1).mean() > MOSTLY:
            place = tuple(int(i) for i in np.argwhere(~single)[0])
            raise UserError(
                f"{where}: {stored.at(place)} has {int(ones[place])} ones, where others have one; mend it, or give "
                "data.kind=multi_hot"
            )
        return Told("multi_hot", True)
    if filled < SPARSE and array.min() >= 0 and array.shape[-1] in KEYS:
        raise UserError(
            f"{where}: rows of {array.shape[-1]} numbers up to {array.max():g}, mostly zeros: a piano roll with velocities? "
            "data.kind=multi_hot takes what is over 0 for a key that sounds; data.kind=real takes them as numbers"
        )
    if whole:
        if features:
            raise UserError(
                f"{where}: rows of {array.shape[-1]} whole numbers from {array.min():g} to {array.max():g}, which are "
                "not one-hot; data.kind=real takes them as numbers, and data.kind=packed as bits of numpy.packbits"
            )
        return Told("categories", False)
    largest = array.max(axis=-1)
    there = ones > 0  # other rows may be padding
    if array.min() >= 0 and array.max() <= 1 and (abs(ones[there] - 1) < 0.05).all() and (largest[there] > 0.5).all():
        return Told("soft", True)
    return Told("real", True)


def _packed(array: np.ndarray) -> bool:
    """Whether these are piano rolls whose bytes hold 8 keys each: few bits are set, and yet bytes are large."""
    of_bytes = array.dtype == np.uint8 and array.ndim > 1 and array.max() > 127 and 8 * array.shape[-1] in KEYS
    return bool(of_bytes and np.unpackbits(array).mean() < SPARSE)


def _refuse_unlike_given(stored: Stored, whole: bool, where: str, given: Given) -> None:
    array = stored.array
    if given in ("categories", "packed", "one_hot") and not whole and not (given == "one_hot" and array.max() <= 1):
        raise UserError(f"data.kind={given}: {where} holds real numbers; give data.kind=real, or leave it out")
    if (
        given == "categories"
        and (array.ndim == 3 or (array.ndim == 2 and stored.lengths is not None))
        and array.shape[-1] > 1
    ):
        raise UserError(f"data.kind=categories: {where} has {array.shape[-1]} numbers a step; a category is one number")
    if given in ("multi_hot", "one_hot") and (array < 0).any():
        place = tuple(int(i) for i in np.argwhere(array < 0)[0])
        raise UserError(f"data.kind={given}: {where}: {stored.at(place)} is {array[place]}; allowed are numbers from 0")
    if given == "one_hot" and array.ndim == 1:
        raise UserError(f"data.kind=one_hot: {where} has one number a step; a one-hot row has several")
    if given == "packed" and (array.dtype != np.uint8 or array.ndim == 1):
        raise UserError(f"data.kind=packed: {where} is no array of rows of bytes (uint8), as numpy.packbits writes them")


def _at(place: Sequence[int], row: str) -> str:
    axes = (row, "column {}", "feature {}")
    return ", ".join(axis.format(i) for axis, i in zip(axes, place, strict=False))


def _refused(array: np.ndarray, where: str) -> UserError:
    return UserError(
        f"{where}: an array of {array.dtype} with shape {array.shape}; allowed are numbers in the shapes (N,), "
        "(samples, features), (sequences, steps) and (sequences, steps, features), and texts"
    )
