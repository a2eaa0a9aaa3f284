"""Ids of tokens in flat files, as nanoGPT and llm.c write them. The files may be larger than memory: they are mapped."""

import hashlib
import json
from codecs import getincrementaldecoder
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, ClassVar, Literal, NamedTuple, Self

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from throughline.data.codecs import Codec
from throughline.data.codecs.characters import Characters
from throughline.data.codecs.ids import MOST_IDS, Ids
from throughline.data.corpus import Corpus, hash_of_table
from throughline.data.files import ENOUGH_TO_TELL, files_of, files_of_split, shown
from throughline.data.line import Line
from throughline.data.shards import Shard, Shards, stamp
from throughline.data.sources import Source
from throughline.data.splits import Splits
from throughline.plumbing import atomic, progress, reading
from throughline.plumbing.errors import UserError
from throughline.plumbing.reading import printable
from throughline.settings import STRICT, Paths, PathStr

HEADER = 1024
"""The bytes of llm.c's header: 256 numbers, first its own, then the version, then how many ids follow."""
WIDTHS = {20240520: "<u2", 20240801: "<u4"}
"""The types of ids by the first number of the header."""
LARGE = 2**26
"""From so many bytes on, what was found in the files is kept, because to go over them takes seconds."""
PIECE = 2**22
"""The ids that are checked at once."""
MOST_BY_ITSELF = 2**20 - 1
"""The largest id from which the size of a vocabulary is told; tokenizers have up to some hundred thousand ids."""
LARGEST_NOTE = 2**24
"""How many bytes the note of what was found may have."""


class Found(NamedTuple):
    """What a file holds.

    Attributes:
        largest: of its ids.
        sha256: of its ids.
    """

    largest: int
    sha256: str


@dataclass(frozen=True, config=STRICT)
class Tokens(Splits, Source):
    """Flat `.bin` files of uint16 or uint32 without a header, or with llm.c's. They are one joined sequence.

    Id i of a file is the step i + 1 of the codec. So with a codec of somebody's tokenizer, text is read and written.
    """

    codecs: ClassVar = {"tokens": Ids(), "text": Characters()}

    path: Paths
    """A file, a folder with `.bin` files, a pattern such as `fineweb_train_*.bin`, or a list. Several files are read in
    order of their names, without those of `val_path` and `test_path`."""
    vocab_size: Annotated[int, Field(gt=0, le=MOST_IDS)] | None = None
    """The number of ids of the tokenizer, such as 50257 of GPT-2. None: that of the codec, or the largest id of the training
    files and one more."""
    dtype: Literal["auto", "uint16", "uint32"] = "auto"
    """The type of an id. `auto`: that of the header. Without one, uint16, or uint32 if the vocabulary is above 65,536."""
    prepared_path: PathStr | None = None
    """The folder of notes about large files that were checked before. None: `prepared` in `output_root`."""

    def under(self, root: str) -> Self:
        return self if self.prepared_path else replace(self, prepared_path=str(Path(root, "prepared")))

    def read(self, codec: Codec | None = None) -> Corpus:
        codec, given = self.codec_or_default(codec), codec is not None
        if given and not isinstance(codec, Ids):
            codec = _with_table(codec)
        vocab = codec.size - 1 if codec.fitted else self.vocab_size
        if self.vocab_size not in (None, vocab):
            raise UserError(f"data.vocab_size={self.vocab_size}: the codec {codec.name} has {vocab:,} ids; leave it out")
        names, said = files_of_split(self.path, "data.path", self.other_files)
        files = {"data.path": _bins(names)}
        if len(files["data.path"]) < len(names):
            said.append(f"files that do not end with .bin were left out: {len(names) - len(files['data.path']):,}")
        for key, path in self.other_files.items():
            files[key] = _bins(files_of(path, key))
        shards = {key: [self._shard(name, key, vocab) for name in names] for key, names in files.items()}
        found = self._checked(shards)
        if not codec.fitted:
            largest = max(found[shard.path].largest for shard in shards["data.path"])
            codec = Ids(vocab or 1 + min(largest, MOST_BY_ITSELF))
        for key, several in shards.items():
            for name, shard in zip(files[key], several, strict=True):
                if found[shard.path].largest >= codec.size - 1:
                    _refuse_beyond(shard, codec, f"{key}={printable(name)}", given)
        parts = self.divided(Shards.of(shards["data.path"], codec.dtype), lambda _, key: Shards.of(shards[key], codec.dtype))
        return _corpus(codec, parts, shards, found, shown(self.path), said)

    def _shard(self, name: str, key: str, vocab: int | None) -> Shard:
        """A file, by its size and its header.

        Raises:
            UserError: it cannot be read, or holds no ids.
        """
        where = f"{key}={printable(name)}"
        if name.endswith((".pkl", ".pickle", ".gz", ".zip", ".npy", ".npz")):
            what = "a pickle, which may hold code" if ".p" in name[-7:] else "no flat file of ids"
            raise UserError(f"{where}: is {what}; give .bin files, an array with data=array, or a text with data=text")
        try:
            with reading.opened(Path(name), MOST) as file:
                first, now = file.read(HEADER), stamp(name)
        except (UserError, OSError) as error:
            raise UserError(f"{key}={error}; give a readable file") from None
        if self.dtype == "auto" and _is_text(first):
            raise UserError(f"{where}: is a text, no flat file of ids; give data=text, or the data.dtype of its ids")
        header = np.frombuffer(first[: len(first) // 4 * 4], "<i4")
        width, offset = WIDTHS.get(int(header[0]), "") if len(header) == HEADER // 4 else "", HEADER
        if not width:
            wide = vocab is not None and vocab > 2**16
            width, offset = "<u4" if self.dtype == "uint32" or (self.dtype == "auto" and wide) else "<u2", 0
        elif self.dtype not in ("auto", np.dtype(width).name):
            raise UserError(f"data.dtype={self.dtype}: the header of {name} says {np.dtype(width).name}; leave it out")
        size, rest = divmod(now[0] - offset, np.dtype(width).itemsize)
        if rest or size < 1:
            held = f"{now[0]:,} bytes, which are no whole number of {np.dtype(width).name}" if rest else "no id"
            raise UserError(f"{where}: holds {held}; give a whole file, and its data.dtype")
        if offset and int(header[2]) != size:
            raise UserError(f"{where}: its header says {int(header[2]):,} ids, and {size:,} are there; give a whole file")
        shard = Shard(str(Path(name).absolute()), width, offset, size, now)
        if self.dtype == "auto" and not offset and width == "<u2" and size >= ENOUGH_TO_TELL and not size % 2:
            halves = shard.ids[: min(size, 2**16)].reshape(-1, 2)
            if not halves[:, 1].any() and halves[:, 0].any():
                raise UserError(f"{where}: every second uint16 is 0, as in a file of uint32; give data.dtype=uint32")
        return shard

    def _checked(self, shards: dict[str, list[Shard]]) -> dict[str, Found]:
        """What the files hold. To go over large files takes time, so a note is kept; changed files are read again."""
        several = [shard for of_key in shards.values() for shard in of_key]
        asked = json.dumps([[shard.path, shard.dtype, shard.offset, shard.stamp] for shard in several])
        note = Path(self.prepared_path or "outputs/prepared", f"{hashlib.sha256(asked.encode()).hexdigest()[:32]}.json")
        size = sum(shard.stamp[0] for shard in several)
        with suppress(UserError, TypeError, ValueError):
            if size >= LARGE:
                values = [Found(int(largest), str(sha256)) for largest, sha256 in reading.json_values(note, LARGEST_NOTE)]
                return {shard.path: found for shard, found in zip(several, values, strict=True)}
        progress.advance(0, size)
        found = {shard.path: _went_over(shard) for shard in several}
        if size >= LARGE:
            with suppress(OSError):  # it only saves time
                atomic.write({note: json.dumps(list(found.values())).encode()})
        return found


MOST = 2**50
"""The most bytes of a file."""


def _bins(names: list[str]) -> list[str]:
    """Of several files those that end with .bin, if there are any."""
    return [name for name in names if name.endswith(".bin")] or names if len(names) > 1 else names


def _is_text(first: bytes) -> bool:
    """Whether a file that begins so is a text. Ids below 2,048 have bytes that no text has, and frequent ids are small."""
    try:
        text = getincrementaldecoder("utf-8")().decode(first)
    except UnicodeDecodeError:
        return False
    return len(first) >= ENOUGH_TO_TELL and all(sign.isprintable() or sign.isspace() for sign in text)


def _with_table(codec: Codec) -> Codec:
    """The codec, which needs a table of its own, because ids are no text that it could be made from."""
    with suppress(ValueError, UserError):
        codec = codec.fit([])
    if not codec.fitted:
        raise UserError(f"codec={codec.name}: has no table, and there is no text to make it from; give codec=auto")
    return codec


def _pieces(shard: Shard) -> Iterator[tuple[int, np.ndarray]]:
    """The ids of a file, `PIECE` at a time, each with the place of the first."""
    shard.refuse_changed()
    with Path(shard.path).open("rb") as file:  # not mapped, because all of it would count as memory of this process
        file.seek(shard.offset)
        for start in range(0, shard.length, PIECE):
            yield start, np.fromfile(file, shard.dtype, PIECE)
    shard.refuse_changed()


def _went_over(shard: Shard) -> Found:
    largest, digest = 0, hashlib.sha256()
    for _, ids in _pieces(shard):
        largest = max(largest, int(ids.max(initial=0)))
        digest.update(ids.data)
        progress.advance(ids.nbytes)
    return Found(largest, digest.hexdigest())


def _refuse_beyond(shard: Shard, codec: Codec, where: str, given: bool) -> None:
    """Name the first id that the codec does not have; `given`, if the codec is not made for these data.

    Raises:
        UserError: always.
    """
    start, ids = next((start, ids) for start, ids in _pieces(shard) if ids.max() >= codec.size - 1)
    place = int(np.argmax(ids >= codec.size - 1))
    hint = "ids of the codec's own tokenizer" if given else "the data.vocab_size of its tokenizer"
    width = np.dtype(shard.dtype)
    other = f", or data.dtype={'uint16' if width.itemsize == 4 else 'uint32'}" if not shard.offset else ""
    raise UserError(
        f"{where}: id {int(ids[place]):,} at place {start + place:,} is beyond the vocabulary of {codec.size - 1:,} ids, "
        f"read as {width.name}; give {hint}{other}"
    )


def _corpus(
    codec: Codec,
    parts: dict[str, Shards],
    shards: dict[str, list[Shard]],
    found: dict[str, Found],
    source: str,
    said: Sequence[str],
) -> Corpus:
    main = shards["data.path"]
    width = " and ".join(sorted({np.dtype(shard.dtype).name for shard in main}))
    ids = sum(shard.length for shard in main)
    splits, too_short, used = {}, {}, {}
    for split, steps in parts.items():
        splits[split] = Line(steps, np.array([len(steps) - 1]))  # type: ignore[arg-type]
        # Which ids, by the content of their files: to hash each split once more would take as long as to check them.
        places = [0, *np.cumsum([len(piece) for _, _, piece in steps.pieces()]).tolist()]
        used[split] = [
            [found[shard.path].sha256, begin, last - first]
            for (shard, begin, _), (first, last) in zip(steps.pieces(), pairwise(places), strict=True)
        ]
        if len(steps) < 2:
            too_short[split] = f"{source}: too short: the {split} split needs at least 2 tokens and has {len(steps)}"
    content = hashlib.sha256("".join(found[shard.path].sha256 for shard in main).encode())
    fingerprint = {
        "source": source,
        "bytes": sum(shard.stamp[0] for shard in main),
        "sha256": content.hexdigest(),
        **({"files": len(main)} if len(main) > 1 else {}),
        "read": "; ".join([f"{ids:,} ids of {width}, mapped from the file{'s' * (len(main) > 1)}", *said]),
        "vocab": codec.size,
        "vocab_sha256": hash_of_table(codec),
        "tokens_sha256": hashlib.sha256(json.dumps(used).encode()).hexdigest(),
    }
    return Corpus(codec, splits, fingerprint, too_short=too_short)
