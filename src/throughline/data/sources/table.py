"""Symbols or numbers in a table: an event log with a sequence per case, a column of symbols or of texts, or series."""

import hashlib
import itertools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass as plain_dataclass
from dataclasses import field, replace
from datetime import datetime
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic.dataclasses import dataclass

from throughline.data.codecs import Codec
from throughline.data.codecs.bytes import Bytes
from throughline.data.codecs.characters import Characters
from throughline.data.codecs.frames import Frames
from throughline.data.codecs.symbols import Symbols
from throughline.data.corpus import Corpus
from throughline.data.files import AsText, files_of_split, read_bytes, shown
from throughline.data.sources import Source, may_be_numbers, said_of, spread_of
from throughline.data.splits import SplitsOfSequences
from throughline.data.tables import Table as Records
from throughline.data.tables import read_table
from throughline.plumbing.errors import UserError, did_you_mean
from throughline.plumbing.reading import printable
from throughline.settings import STRICT, EscapedStr, Paths

MISSING = "?"
"""The symbol of a missing value, with `missing=symbol`."""
NO_NUMBERS = frozenset({"", "nan", "na", "n/a", "null", "none", "?"})
"""How a missing number is written."""


@dataclass(frozen=True, config=STRICT)
class Table(AsText, SplitsOfSequences, Source):
    """A CSV file with any delimiter, JSON lines, or Parquet.

    With `sequence`, each case is a sequence. Without it, the rows are one joined sequence. A list of symbols in each record
    of JSON or Parquet is a sequence per record. With `values`, a row is a frame of numbers.
    """

    codecs: ClassVar = {"symbols": Symbols(), "frames": Frames(), "text": Characters(), "bytes": Bytes()}
    or_bytes: ClassVar[bool] = False

    path: Paths
    """A file, a folder, a pattern such as `logs/*.csv`, or a list. A file may be compressed (.gz, .bz2, .xz)."""
    symbol: str | list[str] | None = None
    """The column of the symbols; several as [a,b] make one symbol, a+b. None: the only column that is left. In a table
    without a header, columns are called 1, 2, ..."""
    values: str | list[str] | None = None
    """The columns of numbers; several as [a,b]. `all`: every column that is left. Each row is then a frame: multi-hot if all
    values are 0 or 1, else of real numbers."""
    sequence: str | None = None
    """The column that names the sequence of a row, such as the case of an event. None: all rows are one joined sequence."""
    order: str | None = None
    """The column by which a sequence is ordered: numbers or times. Rows with the same value keep the order of the file.
    None: the order of the file."""
    by: Literal["auto", "symbols", "characters"] = "auto"
    """`characters`: each row is a sequence, the text in the column `symbol` by its characters. `auto`: what the codec reads,
    symbols without one."""
    one_hot: bool = False
    """Whether the columns `symbol` are one-hot: a 1 in one of them and 0 in the others. Its name is the symbol."""
    missing: Literal["refuse", "skip", "symbol"] = "refuse"
    """What an empty symbol or value means: the table is refused, the row is skipped, or it is the symbol `?`."""
    header: bool | Literal["auto"] = "auto"
    """Whether the first line of a CSV names the columns. `auto`: it does if no value of it comes again below."""
    delimiter: EscapedStr | None = None
    """What separates the values of a CSV. None: comma, tab, semicolon or bar, as the first rows show."""
    quotes: bool = True
    """Whether values of a CSV may stand in quotes. Give false if a quote is a character as any other."""
    time_format: str | None = None
    """How times are written if not as 2021-01-04 19:46:14, for example %d.%m.%Y %H:%M (see Python's strptime)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.by == "characters" and (self.sequence or self.order or not isinstance(self.symbol, str | None)):
            raise ValueError("by=characters reads each row as a sequence: give symbol=COLUMN, and no sequence or order")
        if self.one_hot and not isinstance(self.symbol, list):
            raise ValueError("one_hot=true: give the columns as symbol=[a,b,c]")
        if self.values is not None and (self.symbol is not None or self.by == "characters"):
            raise ValueError("values are read as numbers: give no symbol and no by=characters with them")
        if self.values is not None and self.missing == "symbol":
            raise ValueError("missing=symbol: a number cannot be a symbol; allowed with values are refuse and skip")
        if self.delimiter is not None and (len(self.delimiter) != 1 or self.delimiter in '"\r\n'):
            raise ValueError(f"delimiter={self.delimiter!r}: allowed is a single character")

    def read(self, codec: Codec | None = None) -> Corpus:
        if codec is None and (self.values is not None or self.by == "characters"):
            return self.read(self.codecs["text" if self.values is None else "frames"])
        chosen, codec = codec is not None, self.codec_or_default(codec)
        if isinstance(codec, Frames) and self.values is None:
            if self.symbol is not None:
                raise UserError(
                    f"codec=frames: reads numbers; give data.values={_given(self.symbol)} instead of data.symbol"
                )
            return replace(self, values="all").read(codec)
        if self.values is not None and not isinstance(codec, Frames):
            raise UserError(
                f"codec={codec.name}: does not read numbers; give data.symbol instead of data.values, or codec=auto"
            )
        by: Literal["symbols", "characters"] = "symbols" if codec.reads in ("symbols", "frames") else "characters"
        if self.by not in ("auto", by):
            raise UserError(f"codec={codec.name}: does not read {self.by}; give data.by={by}, or codec=auto")
        if self.by == "auto":
            return replace(self, by=by).read(codec if chosen else None)
        log = self._log(self.path, "data.path", codec)
        if not chosen and log.real_numbers:
            if self.symbol is None:
                return replace(self, values="all").read(codec=None)
            raise UserError(
                f"data.symbol={_given(self.symbol)}: {shown(self.path)} has real numbers there, {log.distinct:,} different "
                f"ones in {log.rows:,} rows; give data.values={_given(self.symbol)}, or codec=symbols for symbols"
            )
        if isinstance(codec, Frames) and not codec.fitted:
            kind = log.frames if codec.kind == "auto" else codec.kind
            codec = replace(codec, kind=kind, names=codec.names or log.features)
        origin = {"source": shown(self.path), "bytes": log.size, "sha256": log.sha256, "read": "; ".join(log.said)}
        if log.one:
            parts = self.divided(log.sequences[0], lambda path, key: self._log(path, key, codec, log.headed).sequences[0])
            one: dict[str, Any] = {split: [part] for split, part in parts.items()}
            return Corpus.of(codec, origin=origin, **one)
        cases = set(log.names)

        def another(path: str, key: str) -> list[Any]:
            found = self._log(path, key, codec, log.headed)
            both = next((name for name in found.names if name in cases), None)
            if both is not None and self.sequence is not None:
                case = f"{self.sequence}={printable(both, 60)}"
                raise UserError(f"{key}={path}: {case} is also in another split; a sequence belongs to one split")
            cases.update(found.names)
            return found.named

        parts = self.parted(log.named, another)
        sequences: dict[str, Any] = {split: [sequence for _, sequence in part] for split, part in parts.items()}
        names = None
        if self.sequence is not None:
            names = {split: [str(name) for name, _ in part] for split, part in parts.items()}
        return Corpus.of(codec, origin=origin, ended=True, joined=self.joined, names=names, **sequences)

    def _log(self, path: str | Sequence[str], key: str, codec: Codec, headed: bool | None = None) -> "Log":
        """The records of the files; `headed` is what another split has decided about headers."""
        files, said = files_of_split(path, key, self.other_files if key == "data.path" else {})
        log = Log(one=self.sequence is None and self.by == "symbols", headed=headed)
        log.numbers = isinstance(codec, Frames)
        digest = hashlib.sha256()
        wanted = [name for name in (self.sequence, self.order, *self._named) if name is not None]
        for file in files:
            content = read_bytes(file, key)
            digest.update(content)
            log.size += len(content)
            where = f"{key}={file}"
            table = read_table(
                file,
                content,
                where,
                self,
                header=self.header if log.headed is None else log.headed,
                delimiter=self.delimiter,
                quotes=self.quotes,
                wanted=wanted,
            )
            log.headed = table.headed if log.headed is None else log.headed  # the first file decides for all
            self._add(log, table, where, codec)
        log.sha256 = digest.hexdigest()
        log.finish(files[0], self)
        log.said += said
        return log

    @property
    def _named(self) -> list[str]:
        """The columns of the symbols or values that the settings name."""
        named = self.symbol if self.values is None else self.values
        return named if isinstance(named, list) else [] if named is None else [named]

    def _add(self, log: "Log", table: Records, where: str, codec: Codec) -> None:
        """Add the records of a file."""
        columns = table.columns
        sequence = self._place(self.sequence, columns, where, "sequence")
        order = self._place(self.order, columns, where, "order")
        named = [] if self.values == "all" and "all" not in columns else self._named
        key = "symbol" if self.values is None else "values"
        records = iter(table.records)
        first = next(records, None)
        if not named:
            rest = [name for place, name in enumerate(columns) if place not in (sequence, order)]
            lists = [name for name in rest if first is not None and isinstance(first[1][columns.index(name)], list)]
            rest = lists if len(lists) == 1 else rest
            if len(rest) != 1 and self.values is None:
                hint = _or_values(first, columns, rest)
                raise UserError(
                    f"data.symbol: {where} has the columns {_listed(columns)}; name the one with the symbols{hint}"
                )
            named = rest
            if not rest:
                raise UserError(f"data.values: {where} has the columns {_listed(columns)}; no one is left for values")
        places = [self._place(name, columns, where, key) for name in named]
        log.said_of(table, named, self)
        known: dict[Any, Any] = {}  # equal symbols share one text
        for number, row in itertools.chain([] if first is None else [first], records):
            at = f"{where}: {table.place} {number}"
            case: Any = None if sequence is None else _text(row[sequence], f"{at}: {self.sequence}").strip()
            if case == "":
                raise UserError(f"{at}: {self.sequence} is empty, so the row belongs to no sequence")
            moment = 0 if order is None else log.moment(row[order], f"{at}: {self.order}", self.time_format)
            values = [row[place] for place in places if place is not None]
            if log.lists(values[0], f"{at}: {named[0]}") and case is None:
                case = len(log.cases)  # a sequence per record
            if values[0] == []:
                log.cases.setdefault(case, [])
            if log.numbers:
                frames = self._frames(values, named, at)
                log.cases.setdefault(case, []).extend((moment, log.of_one_size(frame, named, at)) for frame in frames)
                log.rows += len(frames)
                log.skipped += not frames and values[0] != []
                continue
            for symbol in self._found(values, named, at):
                if self.by == "characters":
                    log.cases[len(log.cases)] = [(moment, symbol.encode() if codec.reads == "bytes" else symbol)]
                else:
                    log.cases.setdefault(case, []).append((moment, known.setdefault(symbol, symbol)))
                log.rows += 1

    def _found(self, values: list[Any], named: list[str], at: str) -> Iterator[str]:
        """The symbols of a record."""
        if isinstance(values[0], list):
            if len(values) > 1:
                raise UserError(f"{at}: {named[0]} holds a list, which cannot be joined with other columns")
            parts = [[value] for value in values[0]]
        else:
            parts = [values]
        for part in parts:
            texts = [_text(value, f"{at}: {name}") for name, value in zip(named, part, strict=True)]
            if self.one_hot:
                yield self._of_one_hot(texts, named, at)
                continue
            texts = texts if self.by == "characters" else [text.strip() for text in texts]
            empty = next((name for name, text in zip(named, texts, strict=True) if not text.strip()), None)
            if empty is None:
                yield _joined(texts)
            elif self.missing == "symbol":
                yield _joined([text or MISSING for text in texts])
            elif self.missing == "refuse":
                raise UserError(f"{at}: {empty} is empty; give data.missing=skip or data.missing=symbol")

    def _frames(self, values: list[Any], named: list[str], at: str) -> list[tuple[float, ...]]:
        """The frames of a record: one of its values, or several in a list; none if a value is missing and may be."""
        parts = [values]
        if isinstance(values[0], list):
            if len(values) > 1:
                raise UserError(f"{at}: {named[0]} holds a list, which cannot be joined with other columns")
            parts = [value if isinstance(value, list) else [value] for value in values[0]]
            named = [named[0]] * max(map(len, parts), default=0)
        frames = []
        for part in parts:
            frame = [self._number(value, f"{at}: {name}") for name, value in zip(named, part, strict=False)]
            if None not in frame:
                frames.append(tuple(frame))
        return frames  # type: ignore[return-value]

    def _number(self, value: Any, at: str) -> float | None:
        """A number; None if it is missing, and the row is to be skipped.

        Raises:
            UserError: it is none.
        """
        text = _text(value, at).strip()
        if text.lower() in NO_NUMBERS:
            if self.missing == "skip":
                return None
            raise UserError(f"{at} is {text or 'empty'}; give data.missing=skip to leave such rows out")
        try:
            number = float({"true": "1", "false": "0"}.get(text.lower(), text))
        except ValueError:
            number = math.nan
        if math.isfinite(number) and "_" not in text:
            return number
        hint = ""
        if re.fullmatch(r"-?[\d.]*,\d+", text):
            hint = "; write decimals with a point"
        elif len(text.split()) > 1:
            hint = "; data.delimiter=' ' separates at blanks"
        raise UserError(f"{at}={printable(text, most=40)!r} is no finite number{hint}")

    def _of_one_hot(self, texts: list[str], named: list[str], at: str) -> str:
        ones = [name for name, text in zip(named, texts, strict=True) if text.strip() in ("1", "1.0", "true", "True")]
        zeros = sum(text.strip() in ("0", "0.0", "false", "False", "") for text in texts)
        if len(ones) != 1 or zeros != len(texts) - 1:
            raise UserError(f"{at}: not one-hot; a row must hold a single 1 and otherwise 0")
        return ones[0]

    def _place(self, name: str | None, columns: list[str], where: str, key: str) -> int | None:
        if name is None:
            return None
        if name in columns:
            return columns.index(name)
        meant = did_you_mean(name, columns)
        raise UserError(f"data.{key}={name}: {where} has the columns {_listed(columns)}; {meant or 'name one of them'}")


def _text(value: Any, at: str) -> str:
    """A value as a text, empty if it is missing.

    Raises:
        UserError: it is a list or an object.
    """
    if isinstance(value, list | dict):
        raise UserError(f"{at}: holds lists or objects inside; allowed are texts, numbers, and lists of them")
    return "" if value is None else str(value)


def _joined(texts: list[str]) -> str:
    """One symbol of several texts; a plus in one of them is marked, so that other texts never give the same symbol."""
    if len(texts) == 1:
        return texts[0]
    return "+".join(text.replace("\\", r"\\").replace("+", r"\+") for text in texts)


def _given(names: str | list[str] | None) -> str:
    """Columns as the command line writes them."""
    return f"[{','.join(names)}]" if isinstance(names, list) else str(names)


def _or_values(first: tuple[int, Sequence[Any]] | None, columns: list[str], rest: list[str]) -> str:
    """A hint at the columns that hold numbers with decimals, as the first record shows."""
    if first is None:
        return ""
    row = dict(zip(columns, first[1], strict=True))
    real = [name for name in rest if isinstance(row[name], str) and re.fullmatch(r"\s*-?\d*\.\d+(e[+-]?\d+)?\s*", row[name])]
    return f", or the numbers, data.values={_given(real if len(real) > 1 else real[0])}" if real else ""


def _listed(columns: list[str]) -> str:
    return printable(", ".join(columns), most=300)


@plain_dataclass
class Log:
    """The rows of a table by sequence, and what is said about them.

    Attributes:
        one: whether all rows are one joined sequence.
        numbers: whether rows are frames of numbers.
        kind: of the values by which rows are ordered.
        others: whether there are columns that are not read as symbols.
        headed: whether tables have a header; None before the first, or where the format always has names.
        listed: whether records hold lists of symbols; None before the first.
        cases: (order, symbol) of each row, by the name of its sequence.
        names, sequences: the sequences in order of their first row.
    """

    one: bool
    headed: bool | None = None
    size: int = 0
    sha256: str = ""
    rows: int = 0
    kind: str = ""
    others: bool = False
    listed: bool | None = None
    cases: dict[Any, list[tuple[Any, Any]]] = field(default_factory=dict)
    names: list[Any] = field(default_factory=list)
    sequences: list[Any] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    numbers: bool = False
    features: list[str] | None = None
    size_of_frames: int = 0
    skipped: int = 0

    def of_one_size(self, frame: tuple[float, ...], named: list[str], at: str) -> tuple[float, ...]:
        """The frame.

        Raises:
            UserError: others have another number of features.
        """
        self.features = named if len(named) == len(frame) else None
        self.size_of_frames = self.size_of_frames or len(frame)
        if len(frame) != self.size_of_frames:
            raise UserError(
                f"{at}: {len(frame)} values, and the first row has {self.size_of_frames}; give every row the same number"
            )
        return frame

    @property
    def distinct(self) -> int:
        """How many different symbols there are."""
        return len(set().union(*self.sequences))

    @property
    def real_numbers(self) -> bool:
        """Whether the symbols are real numbers, most of them different, so that they are meant as numbers."""
        if self.numbers or not may_be_numbers(self.distinct, self.rows):
            return False
        try:
            found = [float(symbol) for symbol in set().union(*self.sequences)]
        except ValueError:
            return False
        return all(map(math.isfinite, found)) and not all(number.is_integer() for number in found)

    @property
    def whole_numbers(self) -> bool:
        """Whether the symbols are whole numbers, and so many different ones that they may be meant as numbers."""
        symbols = set().union(*self.sequences)
        return may_be_numbers(len(symbols), self.rows) and all(re.fullmatch(r"-?\d+", symbol) for symbol in symbols)

    @property
    def frames(self) -> Literal["multi_hot", "real"]:
        """The kind of the frames."""
        return "multi_hot" if all(np.isin(frames, (0, 1)).all() for frames in self.sequences) else "real"

    @property
    def named(self) -> list[tuple[Any, Any]]:
        """Each sequence with its name."""
        return list(zip(self.names, self.sequences, strict=True))

    def lists(self, value: Any, at: str) -> bool:
        """Whether records hold lists of symbols, as this value does.

        Raises:
            UserError: others are unlike it.
        """
        listed = isinstance(value, list)
        if value is None:
            return bool(self.listed)
        if self.listed is None:
            self.listed, self.one = listed, self.one and not listed
            if listed and None in self.cases:  # missing lists before this one
                self.cases = dict(enumerate([row] for row in self.cases[None]))
        if listed != self.listed:
            raise UserError(f"{at} holds {'a list' if listed else 'no list'}, unlike the records before; give one kind")
        return listed

    def moment(self, value: Any, at: str, time_format: str | None) -> Any:
        """A number or a time, of the same kind in all rows.

        Raises:
            UserError: it is neither, or of another kind than before.
        """
        text = _text(value, at).strip()
        kind, moment = _moment(text, time_format)
        if not kind:
            hint = "times other than 2021-01-04 19:46:14 need data.time_format, for example %d.%m.%Y %H:%M"
            raise UserError(f"{at}={printable(text, most=40)!r} is no number and no time; {hint}")
        if self.kind not in ("", kind):
            raise UserError(f"{at}={printable(text, most=40)!r} is {kind}, and other rows have {self.kind}; give one kind")
        self.kind = kind
        return moment

    def said_of(self, table: Records, named: list[str], settings: Table) -> None:
        """Note how the columns were read."""
        if self.said:
            return  # the first file speaks for all
        if table.headed is False:
            self.said.append("no header: its first line is data")
        if len(table.columns) > 1:
            self.said.append(f"columns {_listed(table.columns)}")
        elif table.headed and settings.header == "auto" and not settings.symbol:
            name = _listed(table.columns)
            self.said.append(f"the first line, {name}, is the name of the column: data.header=false reads it as data")
        self.others = len(table.columns) > len(named)

    def finish(self, file: str, settings: Table) -> None:
        """Order the rows and the sequences."""
        if not self.rows:
            what = "numbers" if self.numbers else "symbols"
            raise UserError(f"{printable(file)}: holds no {what}; give a table with rows that are not empty")
        repeated = sum(len(rows) - len(set(rows)) for rows in self.cases.values()) if settings.order is not None else 0
        for rows in self.cases.values():
            if settings.order is not None:
                rows.sort(key=lambda row: row[0])  # stable: equal ones keep the order of the file
        self.names = list(self.cases)
        if settings.order is not None:
            self.names.sort(key=lambda name: self.cases[name][0][0])
        if self.numbers:
            frames = [np.array([frame for _, frame in self.cases[name]], np.float64) for name in self.names]
            self.sequences = [f.reshape(-1, self.size_of_frames) for f in frames]
        elif settings.by == "characters":
            self.sequences = [self.cases[name][0][1] for name in self.names]
        else:
            self.sequences = [[symbol for _, symbol in self.cases[name]] for name in self.names]
        if self.numbers:
            self.said.insert(0, said_of(self.sequences, self.frames, several=not self.one))
            if self.others and self.features:
                self.said.append(f"values {_listed(self.features)}")
            if self.skipped:
                self.said.append(f"{self.skipped:,} rows with a missing value were left out")
            if self.frames == "multi_hot" and all((f.sum(axis=1) == 1).all() for f in self.sequences):
                self.said.append("each row has a single 1: data.symbol with data.one_hot=true reads them as symbols")
        elif self.one:
            hint = "; data.values reads them as numbers" if self.whole_numbers else ""
            self.said.insert(0, f"{self.rows:,} symbols{hint}")
            if self.others:
                self.said.append("one joined sequence: data.sequence=COLUMN makes one per case")
        else:
            of = "characters" if settings.by == "characters" else "symbols"
            self.said.insert(0, f"{len(self.sequences):,} sequences of {spread_of(self.sequences)} {of}")
        if repeated:
            same = "values" if self.numbers else "symbol"
            self.said.append(f"{repeated:,} rows are there twice, with the same {same} at the same {settings.order}")


def _moment(text: str, time_format: str | None) -> tuple[str, Any]:
    """The kind of a value and the value: "a number", "a time" or "a time with a zone"; an empty kind if it is neither."""
    if time_format is not None:
        try:
            return _zoned(datetime.strptime(text, time_format))
        except ValueError:
            return "", None
    for kind in (int, float):
        try:
            number = kind(text)
        except (ValueError, OverflowError):
            continue
        return ("a number", number) if math.isfinite(number) else ("", None)
    year_first = text[:10].replace("/", "-") + text[10:]  # 2021/01/04 can be read in one way only
    try:
        return _zoned(datetime.fromisoformat(year_first.removesuffix(" UTC")))
    except ValueError:
        return "", None


def _zoned(time: datetime) -> tuple[str, datetime]:
    return ("a time" if time.tzinfo is None else "a time with a zone"), time
