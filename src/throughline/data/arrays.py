"""Reads arrays of NumPy, and tells by their numbers what they hold."""

import io
import math
import zipfile
from typing import Literal, NamedTuple

import numpy as np

from throughline.plumbing.errors import UserError
from throughline.plumbing.reading import printable

MOST_BYTES = 2**32
"""The bytes of an array in a compressed file; more could fill the memory."""

Kind = Literal["categories", "one_hot", "soft", "multi_hot", "real", "texts"]

MOSTLY = 0.9
"""The share of rows with a single 1 above which the others are taken for mistakes."""
WHOLE = frozenset({"categories", "one_hot", "multi_hot"})
"""The kinds of whole numbers, which a few rows may not tell apart."""


class Told(NamedTuple):
    """What an array holds.

    Attributes:
        kind: `soft` is one-hot with values such as 0.9995; `multi_hot` has several ones in a row.
        frames: whether the last axis holds the features of a step.
    """

    kind: Kind
    frames: bool


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
    if not content.startswith(b"\x93NUMPY"):
        raise UserError(f"{where}: no array of NumPy; give a .npy or .npz file, or data=table, data=lines or data=text")
    try:
        version = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(file)
        if dtype.hasobject:
            raise UserError(
                f"{where}: holds Python objects, as arrays of unlike lengths do; they are not read. Save padded rows with "
                "their lengths, or text lines for data=lines"
            )
        if math.prod(shape) * dtype.itemsize != len(content) - file.tell():  # before memory is taken for it
            raise UserError(f"{where}: its header claims the shape {shape}, which is not the size of the file")
        array: np.ndarray = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError, TypeError, SyntaxError) as error:
        raise UserError(f"{where}: no array that can be read safely: {printable(error, most=100)}") from None
    return array


def told(array: np.ndarray, where: str) -> Told:
    """What an array holds, by its type, its shape and its numbers.

    Raises:
        UserError: it can hold no steps.
    """
    if array.dtype.kind in "US":
        if array.ndim not in (1, 2):
            raise _refused(array, where)
        return Told("texts", False)
    if array.dtype.kind not in "biuf" or not 1 <= array.ndim <= 3 or not array.size:
        raise _refused(array, where)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise UserError(f"{where}: {_at(place)} is {array[place]}; give finite numbers")
    whole = array.dtype.kind != "f" or bool((array == np.floor(array)).all())
    if array.ndim == 1:
        return Told("categories" if whole else "real", False)
    ones = array.sum(axis=-1, dtype=np.float64)
    if whole and array.shape[-1] > 1 and array.min() >= 0 and array.max() <= 1:
        single = ones <= 1
        if single.all() and 2 * np.count_nonzero(ones) >= ones.size:
            return Told("one_hot", True)
        if not single.all() and (ones == 1).mean() > MOSTLY:
            place = tuple(int(i) for i in np.argwhere(~single)[0])
            raise UserError(f"{where}: {_at(place)} has {int(ones[place])} ones, where others have one; mend it")
        return Told("multi_hot", True)
    if whole:
        return Told("categories", array.ndim == 3)
    largest = array.max(axis=-1)
    there = ones > 0  # other rows may be padding
    if array.min() >= 0 and array.max() <= 1 and (abs(ones[there] - 1) < 0.05).all() and (largest[there] > 0.5).all():
        return Told("soft", True)
    return Told("real", True)


def _at(place: tuple[int, ...]) -> str:
    return ", ".join(f"{axis} {i}" for axis, i in zip(("row", "column", "feature"), place, strict=False))


def _refused(array: np.ndarray, where: str) -> UserError:
    return UserError(
        f"{where}: an array of {array.dtype} with shape {array.shape}; allowed are numbers in the shapes (N,), "
        "(samples, features), (sequences, steps) and (sequences, steps, features), and texts"
    )
