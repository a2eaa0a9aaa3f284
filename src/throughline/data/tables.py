"""Reads the records of a table: CSV, JSON lines or Parquet, one at a time, every value as the text that stands there.

CSV is read by Python's own module. DuckDB is faster (a million rows of three columns, sorted: 0.7 s against 2.4 s), but it
ended without an error at a quote that is never closed, and the rows after it were lost. Parquet needs DuckDB.
"""

import csv
import io
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from throughline.data.files import PACKED
from throughline.plumbing.errors import UserError
from throughline.plumbing.reading import printable

DELIMITERS = ",\t;|"
SAMPLE = 1000
"""Rows by which the delimiter and the header are told."""


class Table(NamedTuple):
    """The records of a file.

    Attributes:
        columns: their names; without a header, their numbers "1", "2", ...
        records: the line or number of each record, and its values; a value is a text, None, or a list of texts.
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
    *,
    decoded: Callable[[bytes], str],
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
        decoded: turns bytes into text.
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
    text = decoded(content)
    if inner.suffix.lower() in (".jsonl", ".ndjson", ".json"):
        return _json_lines(text, where)
    dialect: dict[str, Any] = {"quoting": csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE}
    return _csv(text, where, header, {**dialect, "delimiter": delimiter or _delimiter(text, dialect)}, wanted)


def _csv(text: str, where: str, header: bool | Literal["auto"], dialect: dict[str, Any], wanted: Sequence[str]) -> Table:
    rows = _rows(text, where, dialect)
    sample = list(itertools.islice(rows, SAMPLE))
    if not sample:
        raise UserError(f"{where}: holds no rows; give a table")
    first = [value.strip() for value in sample[0][1]]
    headed = _is_header(first, [row for _, row in sample[1:]], wanted) if header == "auto" else header
    columns = first if headed else [str(number) for number in range(1, len(first) + 1)]
    twice = next((name for name in columns if columns.count(name) > 1), None)
    if headed and twice is not None:
        raise UserError(f"{where}: two columns have the name {printable(twice)!r}; rename one, or give data.header=false")
    return Table(columns, itertools.chain(sample[1:] if headed else sample, rows), "line", headed)


def _rows(text: str, where: str, dialect: dict[str, Any]) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not empty, each with the line in which it ends."""
    reader, width = csv.reader(io.StringIO(text, newline=""), strict=True, **dialect), 0
    try:
        for row in reader:
            if not row or (len(row) == 1 and width > 1 and not row[0].strip()):
                continue
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
    if most == 1 and any(sign in text.partition("\n")[0] for sign in DELIMITERS):
        # The rows are of unlike lengths: the delimiter of the first one, so that the message can name the row.
        best = max(DELIMITERS, key=text.partition("\n")[0].count)
    return best


def _is_header(first: list[str], others: list[list[str]], wanted: Sequence[str]) -> bool:
    """Whether the first row names the columns: no value of it comes again below, and it is not all numbers."""
    if any(name in first for name in wanted if not name.isdigit()):
        return True
    if any(row[column].strip() == name for row in others for column, name in enumerate(first)):
        return False
    return not all(_is_number(value) for value in first) and all(first)


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def _json_lines(text: str, where: str) -> Table:
    if text.lstrip().startswith("["):  # one list of records
        try:
            listed = json.loads(text, parse_int=str, parse_float=str, parse_constant=str)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{where}: no JSON: {printable(error, most=100)}; give an object per line") from None
        text = "\n".join(json.dumps(record) for record in listed)
    lines = ((number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip())
    records = (_record(line, f"{where}: line {number}", number) for number, line in lines)
    first = next(records, None)
    if first is None:
        raise UserError(f"{where}: holds no records; give a JSON object per line")
    columns = list(first[1])
    return Table(columns, ((n, [r.get(name) for name in columns]) for n, r in itertools.chain([first], records)), "line")


def _record(line: str, where: str, number: int) -> tuple[int, dict[str, Any]]:
    try:
        record = json.loads(line, parse_int=str, parse_float=str, parse_constant=str)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: no JSON: {printable(error, most=100)}; give an object per line") from None
    if not isinstance(record, dict):
        raise UserError(f'{where}: not an object; give one such as {{"events": ["a", "b"]}} per line')
    return number, {key: _plain(value, f"{where}: {printable(key, most=40)}") for key, value in record.items()}


def _plain(value: Any, where: str) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list) and all(isinstance(v, str | bool) for v in value):
        return [_plain(v, where) for v in value]
    if value is None or isinstance(value, str):
        return value
    raise UserError(f"{where}: holds lists or objects inside; allowed are texts, numbers, and lists of them")


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
