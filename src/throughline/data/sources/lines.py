"""A sequence per line: names, molecules, sentences, sessions of a log."""

from collections import Counter
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic.dataclasses import dataclass

from throughline.data.codecs import Codec
from throughline.data.codecs.bytes import Bytes
from throughline.data.codecs.characters import Characters
from throughline.data.codecs.symbols import Symbols
from throughline.data.codecs.words import Words
from throughline.data.corpus import Corpus
from throughline.data.files import PACKED, AsText, Documents, read_documents
from throughline.data.sources import Source, spread_of
from throughline.data.splits import SplitsOfSequences
from throughline.plumbing.errors import UserError
from throughline.settings import STRICT, Paths

RARELY = 0.01
"""The share of tokens up to which they may occur only once, if lines are read by tokens without being asked."""
MOLECULES = (".smi", ".smiles")
"""The endings of files in which the name of a molecule may follow it in its line."""


@dataclass(frozen=True, config=STRICT)
class Lines(AsText, SplitsOfSequences, Source):
    """The lines of a text; blank ones are left out."""

    codecs: ClassVar = {"text": Characters(), "symbols": Symbols(), "bytes": Bytes()}

    path: Paths
    """A file, a folder, a pattern such as `logs/*.txt`, or a list. A file may be compressed (.gz, .bz2, .xz)."""
    by: Literal["auto", "characters", "tokens"] = "auto"
    """What a step is: a character, or a token, which is what stands between white space, such as a word or the key of a log.
    `auto`: tokens if most lines hold several, and hardly any token occurs only once; otherwise characters."""

    def read(self, codec: Codec | None = None) -> Corpus:
        by: str = self.by
        chosen = by != "auto" or codec is not None
        if codec is not None:
            by = "tokens" if self.codec_or_default(codec).reads == "symbols" else "characters"
            if self.by not in ("auto", by) and not (self.by == "tokens" and isinstance(codec, Words)):
                raise UserError(f"codec={codec.name}: does not read {self.by}; give data.by={by}, or codec=auto")
        as_text = None if codec is not None and codec.reads == "bytes" else self
        documents = read_documents(self.path, "data.path", as_text, without=self.other_files)
        lines, left_out = _lines(documents, by)
        if len(lines) < 2 and self.val_path is None:
            held = "a single line" if lines else "blank lines only"
            raise UserError(
                f"{documents.origin['source']}: holds {held}; give a sequence per line, or data=text for one long text"
            )
        if by == "auto":
            by = "tokens" if _recur(lines) else "characters"
        codec = codec or self.codecs["symbols" if by == "tokens" else "text"]

        def steps(lines: list[Any]) -> list[Any]:
            return [line.split() for line in lines] if by == "tokens" else lines

        sequences = steps(lines)
        parts = self.parted(sequences, lambda path, key: steps(_lines(read_documents(path, key, as_text), by)[0]))
        counted, unit = sequences, "bytes" if as_text is None else by
        if isinstance(codec, Words):
            counted, unit = [line.split() for line in lines], "words"
        what = f"{len(lines):,} sequences of {spread_of(counted)} {unit}"
        said = "; ".join([what, *documents.said, *left_out, *_hints(lines, by, chosen)])
        return Corpus.of(codec, origin={**documents.origin, "read": said}, ended=True, joined=self.joined, **parts)


def _lines(documents: Documents, by: str) -> tuple[list[Any], list[str]]:
    """The lines that are not blank, and what was left out."""
    found: list[Any] = []
    blank = named = 0
    for name, content in zip(documents.names, documents.contents, strict=True):
        lines = content.removesuffix("\n").split("\n") if isinstance(content, str) else content.splitlines()
        kept = [line for line in lines if line.strip()]
        blank += len(lines) - len(kept)
        if by != "tokens" and _of_molecules(name) and all(len(line.split(maxsplit=1)) > 1 for line in kept):
            kept, named = [line.split(maxsplit=1)[0] for line in kept], named + len(kept)
        found += kept
    said = ["of each line the first field, the molecule without its name"] if named else []
    return found, [*said, f"blank lines left out: {blank:,}"] if blank else said


def _hints(lines: list[Any], by: str, chosen: bool) -> Iterator[str]:
    """What a person may want to change; `chosen` says whether the kind of steps was."""
    if not chosen and by == "tokens":
        yield "data.by=characters reads characters instead"
    elif not chosen and _mostly_several(lines):
        yield "most lines hold white space: data.by=tokens reads what stands between instead"
    again = sum(times for times in Counter(lines).values() if times > 1)
    if again:
        yield f"{again:,} of {len(lines):,} lines occur more than once"


def _of_molecules(name: str) -> bool:
    path = Path(name)
    return (path.with_suffix("") if path.suffix.lower() in PACKED else path).suffix.lower() in MOLECULES


def _mostly_several(lines: list[Any]) -> bool:
    """Whether most lines hold several tokens."""
    return 2 * sum(len(line.split(maxsplit=1)) > 1 for line in lines) > len(lines)


def _recur(lines: list[Any]) -> bool:
    """Whether lines are meant as tokens: most hold several, and hardly any token occurs only once."""
    if not _mostly_several(lines):
        return False
    times = Counter(chain.from_iterable(line.split() for line in islice(lines, 100_000)))
    return sum(n == 1 for n in times.values()) <= RARELY * times.total()
