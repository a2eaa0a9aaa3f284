"""Discrete events: one-hot rows of an array, or symbols in a column of a CSV file."""

import csv
import hashlib
import io
import math
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic.dataclasses import dataclass

from throughline.data.codecs import Codec
from throughline.data.codecs.symbols import Symbols
from throughline.data.corpus import Corpus
from throughline.data.sources import Source
from throughline.data.sources.text import decode, read_bytes
from throughline.data.splits import Splits
from throughline.plumbing.errors import UserError
from throughline.settings import STRICT, PathStr


@dataclass(frozen=True, config=STRICT)
class Events(Splits, Source):
    """One sequence of events, from a .npy or .csv file.

    A `.npy` file holds an array (samples, features) of one-hot rows; feature i becomes the symbol "i".
    A `.csv` file has a header line; `column` names the column with the symbols.
    """

    codecs: ClassVar = {"symbols": Symbols()}

    path: PathStr
    """The path of the file."""
    column: str | None = None
    """The column of a .csv file that holds the symbols. None: the only column."""

    def read(self, codec: Codec | None = None) -> Corpus:
        codec = self.codec_or_default(codec)
        content = read_bytes(self.path, "data.path")
        parts = self.divided(
            self._symbols(content, self.path), lambda path, key: self._symbols(read_bytes(path, key), path, key)
        )
        origin = {"source": self.path, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        sequences: dict[str, Any] = {split: [part] for split, part in parts.items()}
        return Corpus.of(codec, origin=origin, **sequences)

    def _symbols(self, content: bytes, path: str, key: str = "data.path") -> list[str]:
        suffix = Path(path).suffix.lower()
        if suffix == ".npy":
            return self._from_one_hot(content, f"{key}={path}")
        if suffix == ".csv":
            return self._from_csv(content, path, f"{key}={path}")
        raise UserError(f"{key}={path}: unknown ending {suffix!r}; allowed are .npy and .csv")

    def _from_one_hot(self, content: bytes, where: str) -> list[str]:
        file = io.BytesIO(content)
        try:
            version = np.lib.format.read_magic(file)
            header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = header(file)
            if math.prod(shape) * dtype.itemsize != len(content) - file.tell():  # before memory is taken for it
                raise ValueError(f"its header claims the shape {shape}, which is not the size of the file")
            rows = np.load(io.BytesIO(content), allow_pickle=False)
        except (ValueError, EOFError, TypeError, SyntaxError) as error:
            raise UserError(f"{where}: not an array that can be read safely: {error}") from None
        if rows.ndim != 2 or rows.dtype.kind not in "biuf":
            raise UserError(
                f"{where}: an array of {rows.dtype} with shape {rows.shape}; "
                "allowed are numbers in the shape (samples, features)"
            )
        wrong = np.flatnonzero(((rows != 0) & (rows != 1)).any(axis=1) | ((rows == 1).sum(axis=1) != 1))
        if len(wrong):
            raise UserError(
                f"{where}: row {wrong[0]} is not one-hot ({len(wrong)} of {len(rows)} rows are not); "
                "each row must hold a single 1 and otherwise 0"
            )
        return [str(i) for i in rows.argmax(axis=1)]

    def _from_csv(self, content: bytes, path: str, where: str) -> list[str]:
        text = decode(content, path).removeprefix("\N{BYTE ORDER MARK}")  # spreadsheets write it
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        try:
            return self._column(reader, path, where)
        except csv.Error as error:
            raise UserError(f"{where}: line {reader.line_num + 1}: not CSV: {error}") from None

    def _column(self, reader: "csv.DictReader[str]", path: str, where: str) -> list[str]:
        columns = list(reader.fieldnames or [])
        column = self.column if self.column is not None or len(columns) != 1 else columns[0]
        if column not in columns:
            raise UserError(f"data.column={column}: {path} has the columns {', '.join(columns)}; name one of them")
        symbols = []
        for row in reader:
            symbol = (row[column] or "").strip()
            if not symbol or len(symbol.split()) > 1:
                raise UserError(
                    f"{where}: line {reader.line_num}: {column}={symbol!r}; a symbol must not be empty or hold white space"
                )
            symbols.append(symbol)
        if self.column is None and column in symbols:
            raise UserError(
                f"{where}: its first line, {column!r}, also occurs below it, so it is no header; "
                "add a first line with a name for the column"
            )
        return symbols
