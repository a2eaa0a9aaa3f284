"""The store: texts larger than memory are encoded once, into files that every later run maps.

outputs/prepared/
    .lock                     held by the process that prepares
    3f2a.../manifest.json     the codec, the fingerprint, and what lies in the other files
            train.steps       ids, one after the other
            train.ends        where sequences end, counted in targets
    9b01... -> 3f2a...        for those who ask with the fitted codec
    3f2a....tmp/              of a process that prepares now, or that was killed
"""

import contextlib
import hashlib
import inspect
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from throughline.data.codecs import Codec
from throughline.data.corpus import Corpus, Prepared
from throughline.data.line import Line
from throughline.data.long_text import changed, parts_of
from throughline.data.mapped import Mapped
from throughline.data.shards import stamp
from throughline.plumbing import atomic
from throughline.plumbing.errors import UserError
from throughline.plumbing.locking import locked
from throughline.plumbing.reading import json_values, printable
from throughline.settings import from_plain

FORMAT = 1
"""Changes when the same text and settings would be prepared differently, or are kept differently."""
LARGEST_MANIFEST = 2**30
"""How many bytes a manifest may have; it holds the table of a codec."""
KEY = "data.prepared_path"


def _stamp(key: str, path: str) -> list[Any]:
    """What a file is: other values mean other content.

    Raises:
        UserError: it is not there.
    """
    try:
        return [os.path.realpath(path), *stamp(path)]
    except (OSError, ValueError) as error:
        raise UserError(f"{key}={printable(path)}: {getattr(error, 'strerror', error)}; give a readable file") from None


class Store:
    """A new folder of prepared steps, while it is written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def line(self, split: str, codec: Codec, sequences: Iterable[Any]) -> Line:
        """Encode the sequences of a split part by part, into its files."""
        lengths = []
        with _new(self.folder / f"{split}.steps") as file:
            for sequence in sequences:
                length = 0
                for part in parts_of(sequence, codec.cut):
                    ids = codec.encode(part).astype(codec.dtype, copy=False)
                    file.write(ids.data)
                    length += len(ids)
                lengths.append(length)
        ends = Line.ends_of(lengths)
        with _new(self.folder / f"{split}.ends") as file:
            file.write(ends.data)
        return _line(self.folder, split, {"steps": sum(lengths), "dtype": codec.dtype.name, "ends": len(ends)})


def prepared(
    root: Path,
    settings: Mapping[str, Any],
    codec: Codec,
    files: Mapping[str, Sequence[str]],
    make: Callable[[Store], Corpus],
) -> Corpus:
    """The prepared corpus of these files and settings; the first process that asks for it makes it, and others wait.

    A process that is killed leaves nothing that is taken for whole: the folder gets its name when all of it is on disk.

    Args:
        root: the folder of all prepared corpora.
        settings: of the source, as plain values.
        codec: fitted, or not yet.
        files: the files by the settings that name them.
        make: reads the files, and encodes their texts into the store.

    Raises:
        UserError: a file cannot be read, or changes meanwhile; the class of the codec is in no file; or the folder cannot be
            written, or is full.
    """
    stamps = [_stamp(key, name) for key, names in files.items() for name in names]
    code = _code(codec)

    def folder_of(codec: Codec) -> Path:
        key = json.dumps([FORMAT, settings, codec.to_plain(), code, stamps], sort_keys=True)
        return root / hashlib.sha256(key.encode()).hexdigest()[:32]

    folder = folder_of(codec)
    with _told(root):
        found = _opened(folder)
        if found is not None:
            return found
        root.mkdir(parents=True, exist_ok=True)
        lock = locked(root / ".lock", -1)
    temporary = folder.with_name(f"{folder.name}.tmp")
    try:
        with _told(root):
            found = _opened(folder)  # another process may have made it
            if found is not None:
                return found
            for litter in root.glob("*.tmp"):  # of processes that were killed
                shutil.rmtree(litter)
            temporary.mkdir()
            begun = time.monotonic()
            corpus = make(Store(temporary))
            for key, names in files.items():
                for name in names:
                    if _stamp(key, name) not in stamps:
                        raise changed(name, key)
            with _new(temporary / "manifest.json") as file:
                file.write(_manifest(corpus, time.monotonic() - begun))
            atomic.fsync_folder(temporary)
            _remove(folder)  # damaged
            temporary.rename(folder)
            fitted = folder_of(corpus.codec)  # a checkpoint has the fitted codec, and finds its data by a link
            if fitted != folder:
                _remove(fitted)
                with contextlib.suppress(OSError):  # a file system without links prepares them anew
                    fitted.symlink_to(folder.name)
            atomic.fsync_folder(root)
        found = _opened(folder)
        assert found is not None
        return found
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        with contextlib.suppress(OSError):
            if [path.name for path in root.iterdir()] == [".lock"]:
                (root / ".lock").unlink()
                root.rmdir()
        lock.release()


def _remove(folder: Path) -> None:
    """Remove a folder, a link to one, or nothing."""
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)


def _code(codec: Codec) -> list[str]:
    """The hash of each file that says how a codec encodes; a user's own may be changed between two runs.

    Raises:
        UserError: a class is in no file.
    """
    try:
        files = [Path(inspect.getfile(cls)) for cls in type(codec).__mro__ if issubclass(cls, Codec)]
        return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    except (OSError, TypeError):
        raise UserError(
            f"codec={codec.name}: its class is in no file, so nobody can tell later which steps are its own; "
            "define it in a module"
        ) from None


@contextlib.contextmanager
def _told(root: Path) -> Iterator[None]:
    """Name the setting in errors about the folder."""
    try:
        yield
    except OSError as error:
        where = printable(error.filename or root)
        raise UserError(
            f"{KEY}={where}: {error.strerror}; give a folder that can be written, with room for the steps"
        ) from None


@contextlib.contextmanager
def _new(path: Path) -> Iterator[IO[bytes]]:
    """A new file that is on disk when it is closed."""
    with path.open("xb", buffering=2**20) as file:
        yield file
        file.flush()
        atomic.fsync(file.fileno())


def _manifest(corpus: Corpus, seconds: float) -> bytes:
    splits = {
        split: {"steps": len(line.steps), "dtype": line.steps.dtype.name, "ends": len(line.ends)}
        for split, line in corpus.splits.items()
    }
    values = {
        "codec": corpus.codec.to_plain(),
        "fingerprint": corpus.fingerprint,
        "too_short": corpus.too_short,
        "splits": splits,
        "seconds": seconds,
    }
    return json.dumps(values).encode()


def _opened(folder: Path) -> Corpus | None:
    """The corpus in a folder; None if there is none, or not all of it."""
    if not folder.is_dir():
        return None
    try:
        values = json_values(folder / "manifest.json", LARGEST_MANIFEST)
        splits = {split: _line(folder, split, sizes) for split, sizes in values["splits"].items()}
        codec: Codec = from_plain(Codec, values["codec"])  # type: ignore[type-abstract]
        corpus = Corpus(codec, splits, values["fingerprint"], too_short=values["too_short"])
        return replace(corpus, prepared=Prepared(str(folder), _size(folder), values["seconds"]))
    except (UserError, ValueError, TypeError, KeyError, AttributeError, FileNotFoundError):
        return None


def _line(folder: Path, split: str, sizes: Mapping[str, Any]) -> Line:
    arrays: list[Any] = []
    for name, dtype, length in (("steps", sizes["dtype"], sizes["steps"]), ("ends", "int64", sizes["ends"])):
        path = folder / f"{split}.{name}"
        if path.stat().st_size != np.dtype(dtype).itemsize * length:
            raise ValueError(f"{path}: not whole")
        arrays.append(Mapped(str(path.absolute()), np.dtype(dtype), (length,)))
    steps, ends = arrays
    return Line(steps, ends)


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())
