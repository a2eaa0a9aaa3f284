"""Reads the records of a table: CSV, JSON lines or Parquet, one at a time, every value as the text that stands there.

CSV is read by Python's own module. DuckDB is faster (a million rows of three columns, sorted: 0.7 s against 2.4 s), but it
ended without an error at a quote that is never closed, and the rows after it were lost. Parquet needs DuckDB.
"""

import csv
import io
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from throughline.data.files import PACKED, AsText
from throughline.plumbing.errors import UserError
from throughline.plumbing.reading import printable

DELIMITERS = ",\t;|"
SAMPLE = 1000
"""Rows by which the delimiter and the header are told."""


class Table(NamedTuple):
    """The records of a file.

    Attributes:
        columns: their names; without a header, their numbers "1", "2", ...
        records: the line or number of each record, and its values; a value is a text, None, or a list of these. In JSON,
            it may be an object as well.
        place: what the number of a record counts: "line" or "row".
        headed: whether the first line names the columns; None if the format always has names.
    """

    columns: list[str]
    records: Iterator[tuple[int, Sequence[Any]]]
    place: str
    headed: bool | None = None


def read_table(
    path: str,
    content: bytes,
    where: str,
    as_text: AsText,
    *,
    header: bool | Literal["auto"],
    delimiter: str | None,
    quotes: bool = True,
    wanted: Sequence[str],
) -> Table:
    """The records of a file, by what it holds.

    Args:
        path: its name; the ending .jsonl or .ndjson means JSON lines.
        content: its bytes, unpacked.
        where: the setting and the path, for messages.
        as_text: how it is decoded.
        header: whether the first line of a CSV names the columns.
        delimiter: of a CSV; None finds it.
        quotes: whether values of a CSV may stand in quotes.
        wanted: columns that the settings name.

    Raises:
        UserError: it is no such table.
    """
    inner = Path(path).with_suffix("") if Path(path).suffix.lower() in PACKED else Path(path)
    if content[:4] == b"PAR1":
        return _parquet(content, where)
    if inner.suffix.lower() == ".parquet":
        raise UserError(f"{where}: no Parquet; it does not begin with PAR1")
    text = as_text.decoded(content, path)
    named = re.match(r"sep=([^\n])\n", text)  # as Excel reads and writes it
    if named is not None:
        text, delimiter = text[named.end() :], delimiter or named[1]
    if inner.suffix.lower() in (".jsonl", ".ndjson", ".json"):
        return _json_lines(text, where)
    dialect: dict[str, Any] = {"quoting": csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE}
    dialect["delimiter"] = delimiter or _delimiter(text, dialect)
    dialect["skipinitialspace"] = quotes and f'{dialect["delimiter"]} "' in text  # a quote counts only at the beginning
    return _csv(text, where, header, dialect, wanted)


def _csv(text: str, where: str, header: bool | Literal["auto"], dialect: dict[str, Any], wanted: Sequence[str]) -> Table:
    rows = _rows(text, where, dialect)
    sample = list(itertools.islice(rows, SAMPLE))
    if not sample:
        raise UserError(f"{where}: holds no rows; give a table")
    first = [value.strip() for value in sample[0][1]]
    headed = _is_header(first, [row for _, row in sample[1:]], wanted, where) if header == "auto" else header
    columns = first if headed else [str(number) for number in range(1, len(first) + 1)]
    twice = next((name for name in columns if columns.count(name) > 1), None)
    if headed and twice is not None:
        raise UserError(f"{where}: two columns have the name {printable(twice)!r}; rename one, or give data.header=false")
    records = itertools.chain(sample[1:] if headed else sample, rows)
    return Table(columns, _no_header(records, columns, where) if headed and len(columns) > 1 else records, "line", headed)


def _no_header(rows: Iterator[tuple[int, list[str]]], columns: list[str], where: str) -> Iterator[tuple[int, list[str]]]:
    """The rows, none of which may repeat the header, as in exports that were laid together."""
    for number, row in rows:
        if row == columns:
            raise UserError(f"{where}: line {number} is the header again; give each export as a file, or remove the line")
        yield number, row


def _rows(text: str, where: str, dialect: dict[str, Any]) -> Iterator[tuple[int, list[str]]]:
    """The rows, each with the line in which it ends; a blank line is one only in a table of one column, before its end."""
    reader, width = csv.reader(io.StringIO(text, newline=""), strict=True, **dialect), 0
    blank: list[int] = []
    try:
        for row in reader:
            if not row or (len(row) == 1 and not row[0].strip()):
                blank.append(reader.line_num)
                continue
            if width == 1:
                yield from ((number, [""]) for number in blank)
            blank.clear()
            width = width or len(row)
            if len(row) != width:
                raise UserError(
                    f"{where}: line {reader.line_num} has {len(row)} values, and the first row has {width}; "
                    "give every row the same number, or data.delimiter"
                )
            yield reader.line_num, row
    except csv.Error as error:
        hint = (
            "; data.quotes=false reads quotes as any other sign"
            if "quot" in str(error) or "end of data" in str(error)
            else ""
        )
        raise UserError(f"{where}: line {reader.line_num}: no CSV: {error}{hint}") from None


def _delimiter(text: str, dialect: dict[str, Any]) -> str:
    """The delimiter by which the first rows fall into the most values, the same number in each."""
    best, most = ",", 1
    for delimiter in DELIMITERS:
        try:
            rows = [
                row
                for row in itertools.islice(csv.reader(io.StringIO(text[: 2**20]), delimiter=delimiter, **dialect), 20)
                if row
            ]
        except csv.Error:
            continue
        widths = {len(row) for row in (rows[:-1] if len(text) > 2**20 else rows)}
        if len(widths) == 1 and max(widths) > most:
            best, most = delimiter, max(widths)
    lines = [line.strip() for line in itertools.islice(io.StringIO(text[: 2**20]), 20)]
    if most == 1 and lines[0].count(" ") and all(map(_is_number, " ".join(lines).split())):
        return " "  # as numpy.savetxt writes
    if most == 1 and any(sign in text.partition("\n")[0] for sign in DELIMITERS):
        # The rows are of unlike lengths: the delimiter of the first one, so that the message can name the row.
        best = max(DELIMITERS, key=text.partition("\n")[0].count)
    return best


def _is_header(first: list[str], others: list[list[str]], wanted: Sequence[str], where: str) -> bool:
    """Whether the first row names the columns: no value of it comes again below, and it is not all numbers.

    Raises:
        UserError: it cannot be told, because there is a single column, and none of its values comes again.
    """
    if any(name in first for name in wanted if not name.isdigit()):
        return True
    if any(row[column].strip() == name for row in others for column, name in enumerate(first)):
        return False
    distinct = len(first) == 1 and len({row[0] for row in others}) == len(others)
    if distinct and not wanted and not all(_is_number(row[0]) for row in others):
        name = printable(first[0], most=40)
        raise UserError(f"{where}: its first line, {name}, may name the column or be data; give data.header=true or false")
    return not all(_is_number(value) for value in first) and all(first)


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def _json_lines(text: str, where: str) -> Table:
    values: Iterator[tuple[int, Any]]
    place = "line"
    if text.lstrip().startswith("["):  # one list of records
        place, values = "record", enumerate(_json(text, where), start=1)
    else:
        lines = ((number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip())
        values = ((number, _json(line, f"{where}: line {number}")) for number, line in lines)
    records = ((number, _record(value, f"{where}: {place} {number}")) for number, value in values)
    first = next(records, None)
    if first is None:
        raise UserError(f"{where}: holds no records; give a JSON object per line")
    columns = list(first[1])
    return Table(columns, ((n, [r.get(name) for name in columns]) for n, r in itertools.chain([first], records)), place)


def _json(text: str, where: str) -> Any:
    """The value of a text, its numbers as they stand there."""
    try:
        return json.loads(text, parse_int=str, parse_float=str, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: no JSON: {printable(error, most=100)}; give an object per line") from None


def _no_number(word: str) -> None:
    """NaN, which is how Python writes what is missing. Infinity is as little a symbol."""


def _record(record: Any, where: str) -> dict[str, Any]:
    if not isinstance(record, dict):
        raise UserError(f'{where}: not an object; give one such as {{"events": ["a", "b"]}} per line')
    return {key: _plain(value) for key, value in record.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return value


def _parquet(content: bytes, where: str) -> Table:
    try:
        import duckdb
    except ImportError:
        raise UserError(f"{where}: Parquet needs DuckDB, which is not installed: pip install -e '.[parquet]'") from None
    import tempfile

    with tempfile.NamedTemporaryFile(suffix=".parquet") as file:  # DuckDB takes a name, not bytes
        file.write(content)
        file.flush()
        options: dict[str, Any] = {"threads": 1, "autoinstall_known_extensions": False, "autoload_known_extensions": False}
        with duckdb.connect(config=options) as database:
            try:
                described = database.execute("DESCRIBE SELECT * FROM read_parquet(?)", [file.name]).fetchall()
                names = [(name, "[]" in kind) for name, kind, *_ in described]
                quoted = [f'"{name.replace(chr(34), 2 * chr(34))}"' for name, _ in names]
                values = [f"CAST({name} AS VARCHAR{'[]' * listed})" for name, (_, listed) in zip(quoted, names, strict=True)]
                rows = database.execute(f"SELECT {', '.join(values)} FROM read_parquet(?)", [file.name]).fetchall()
            except duckdb.Error as error:
                why = str(error).split("\n")[0].replace(file.name, "the file")
                raise UserError(f"{where}: cannot be read as Parquet: {printable(why, most=120)}") from None
    return Table([name for name, _ in names], iter(enumerate(rows, start=1)), "row")
