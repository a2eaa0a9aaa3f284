"""Symbols in tables: event logs, columns, JSON lines, Parquet."""

import csv
import io
import json
import random
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from throughline.data.corpus import Corpus
from throughline.data.sources.table import Table
from throughline.plumbing.errors import UserError
from throughline.settings import checked

LOG = """case,activity,time
1,a,2021-01-04 10:00:00
2,b,2021-01-04 09:00:00
1,c,2021-01-04 09:30:00
2,a,2021-01-04 09:00:00
"""
BY_CASE: dict[str, Any] = {"sequence": "case", "order": "time", "symbol": "activity"}


def write(folder: Path, text: str, name: str = "log.csv") -> str:
    (folder / name).write_text(text, encoding="utf-8", newline="")
    return str(folder / name)


def sequences(corpus: Corpus) -> list[str]:
    """The sequences of all splits in their order, written out."""
    found = []
    for line in corpus.splits.values():
        begins = [0, *line.ends[:-1].tolist()] if line.ended else [-1]
        ends = line.ends.tolist() if line.ended else [len(line.steps)]
        found += [corpus.codec.decode(line.steps[b + 1 : e].tolist()) for b, e in zip(begins, ends, strict=True)]
    return found


def test_a_log_written_out(tmp_path: Path) -> None:
    corpus = Table(write(tmp_path, LOG), **BY_CASE, val_fraction=0.5, split="end").read()
    assert corpus.codec.symbols == ["a", "b"]  # type: ignore[attr-defined]  # case 2 began first, so it is trained on
    assert corpus.train.steps.tolist() == [3, 2, 1, 3]  # at the same time: in the order of the file
    assert corpus.val.steps.tolist() == [3, 0, 1, 3]
    assert not corpus.train.joined
    assert corpus.fingerprint["read"] == "2 sequences of 2 symbols; columns case, activity, time"


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.txt", "a.csv.gz"])
def test_other_delimiters_and_names_give_the_same(delimiter: str, name: str, tmp_path: Path) -> None:
    import gzip

    whole = Table(write(tmp_path, LOG), **BY_CASE, val_fraction=0.5).read()
    content = LOG.replace(",", delimiter).encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    other = Table(str(tmp_path / name), **BY_CASE, val_fraction=0.5).read()
    assert other.fingerprint["tokens_sha256"] == whole.fingerprint["tokens_sha256"]


@pytest.mark.parametrize(
    ("text", "settings", "symbols", "said"),
    [
        ("e1\ne2\ne1\ne1\n", {}, "e1 e2 e1 e1", "4 symbols; no header: its first line is data"),
        (
            "event\ne1\ne2\ne1\n",
            {},
            "e1 e2 e1",
            "3 symbols; the first line, event, is the name of the column: data.header=false reads it as data",
        ),
        ("sep=;\na;b\n1,5;x\n2,5;y\n", {"symbol": "a"}, "1,5 2,5", None),
        ('c, a\n1, "open, file"\n2, shut\n', {"symbol": "a"}, "open, file; shut", None),
        ("event\ne1\ne2\n", {"symbol": "event"}, "e1 e2", "2 symbols"),
        ("event\ne1\ne2\n", {"header": False}, "event e1 e2", "3 symbols; no header: its first line is data"),
        ("5\n6\n7\n", {}, "5 6 7", "3 symbols; no header: its first line is data"),
        ("5\n6\n7\n", {"header": True}, "6 7", "2 symbols"),
        ("abc\nde\nfg\n", {"header": True}, "de fg", "2 symbols"),
        ("abc\nde\nfg\n", {"symbol": "abc"}, "de fg", "2 symbols"),
        ("e\nx\n\ny\n\n\n", {"symbol": "e", "missing": "symbol"}, "x ? y", None),
        ("e\n\nx\n \ny\n", {"symbol": "e", "missing": "skip"}, "x y", None),
        ("x,y\nx,z\nw,y\n", {"symbol": "2"}, "y z y", None),  # x comes again below
        ("a b,1\nc,1\n", {"symbol": "1"}, "a b, c", None),
        ('a,n\n"b, c",1\n"d ""e""\nf",2\n', {"symbol": "a"}, 'b, c; d "e"\nf', None),
        ("n,e\n3,x\n1,y\n2,z\n", {"symbol": "e", "order": "n"}, "y z x", None),
        ("n,e\n10,x\n9,y\n", {"symbol": "e", "order": "n"}, "y x", None),  # as numbers, not as text
        ("n,e\n1.5,x\n-2,y\n1e1,z\n", {"symbol": "e", "order": "n"}, "y x z", None),
        ("t,e\n2021-03-01T10:00+02:00,x\n2021-03-01T09:00Z,y\n", {"symbol": "e", "order": "t"}, "x y", None),
        ("t,e\n02.01.2021,x\n01.02.2021,y\n", {"symbol": "e", "order": "t", "time_format": "%d.%m.%Y"}, "x y", None),
        ("t,e\n2021/03/01 10:00:00.000,x\n2021/02/01 09:00,y\n", {"symbol": "e", "order": "t"}, "y x", None),
        ('a\tb\n5" pipe\t1\n6" pipe\t2\n', {"symbol": "a", "quotes": False}, '5" pipe, 6" pipe', None),
        ("a,b\nx,1\n,2\ny,3\n", {"symbol": "a", "missing": "skip"}, "x y", None),
        ("a,b\nx,1\n,2\ny,3\n", {"symbol": "a", "missing": "symbol"}, "x ? y", None),
        ("a,b\nx,1\ny,2\n", {"symbol": ["a", "b"]}, "x+1 y+2", None),
        ("a,b\nu+v,w\nu,v+w\nu\\,w\n", {"symbol": ["a", "b"]}, r"u\+v+w u+v\+w u\\+w", None),
        ('a,b\n"p q",1\n"r,s; t|u\tv",2\n', {"symbol": "a"}, "p q \u2190 r,s; t|u\tv", None),
        ("a,b,c\n1,0,0\n0,0,1\n", {"symbol": ["a", "b", "c"], "one_hot": True}, "a c", None),
        ("a,b\n\nx,1\n\n\ny,2\n", {"symbol": "a"}, "x y", None),
        ("a;b\n1,5;x\n2,5;y\n", {"symbol": "a", "delimiter": ";"}, "1,5 2,5", None),
    ],
)
def test_a_column_written_out(text: str, settings: dict[str, Any], symbols: str, said: str | None, tmp_path: Path) -> None:
    path = write(tmp_path, text)
    corpus = Table(path, **settings, val_path=path).read()
    train = corpus.codec.decode(corpus.train.steps.tolist())
    assert train == symbols
    assert corpus.train.joined
    if said is not None:
        assert corpus.fingerprint["read"] == said


def test_texts_in_a_column_by_their_characters(tmp_path: Path) -> None:
    path = write(tmp_path, "smiles,logP\nCC,1.0\nCN C,2.0\n")
    corpus = Table(path, symbol="smiles", by="characters", val_path=path).read()
    assert sequences(corpus)[:2] == ["CC", "CN C"]
    assert corpus.train.ended


def test_records_of_json(tmp_path: Path) -> None:
    path = write(tmp_path, '{"user": 7, "events": ["a", 5, 5.0]}\n\n{"user": 8, "events": ["b"]}\n', "r.jsonl")
    corpus = Table(path, val_path=path).read()  # the only list
    assert sequences(corpus) == ["a 5 5.0", "b"] * 2  # numbers as they stand there
    listed = write(tmp_path, '[{"e": ["a", 5]},\n {"e": ["b"]}]', "list.json")
    assert sequences(Table(listed, val_path=listed).read())[:2] == ["a 5", "b"]
    text = write(tmp_path, '{"e": ["ab", "c"]}\n{"e": ["d"]}\n', "texts.jsonl")
    assert sequences(Table(text, by="characters", val_path=text).read())[:3] == ["ab", "c", "d"]
    empty = write(tmp_path, '{"e": ["a"]}\n{"e": []}\n{"e": ["b"]}\n', "empty.jsonl")
    assert sequences(Table(empty, val_path=empty).read())[:3] == ["a", "", "b"]
    nulls = write(tmp_path, '{"e": null}\n{"e": null}\n{"e": ["a"]}\n{"e": null}\n{"e": ["b"]}\n', "nulls.jsonl")
    assert sequences(Table(nulls, val_path=nulls, missing="symbol").read())[:5] == ["?", "?", "a", "?", "b"]
    assert sequences(Table(nulls, val_path=nulls, missing="skip").read())[:3] == ["a", "b", "a"]
    lines = ('{"u": 1, "e": ["a"], "x": {"y": 1}}', '{"u": 2, "e": ["d"]}', '{"u": "1 ", "e": ["c", "d"]}')
    users = write(tmp_path, "\n".join(lines), "users.jsonl")
    corpus = Table(users, sequence="u", symbol="e", val_fraction=0.5).read()
    assert (sequences(corpus), corpus.train.names, corpus.val.names) == (["a c d", "d"], ["1"], ["2"])
    rows = write(tmp_path, '{"n": 2, "e": "x"}\n{"n": 1, "e": true}\n', "rows.jsonl")
    assert sequences(Table(rows, symbol="e", order="n", val_path=rows).read())[0] == "true x"


def test_parquet(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    csv_path, path = write(tmp_path, LOG), str(tmp_path / "log.parquet")
    with duckdb.connect() as database:
        database.execute(f"COPY (SELECT * FROM read_csv('{csv_path}')) TO '{path}' (FORMAT parquet)")
        lists = str(tmp_path / "lists.parquet")
        database.execute(
            f"COPY (SELECT * FROM (VALUES (1, ['a', 'b']), (2, ['c'])) t(id, events)) TO '{lists}' (FORMAT parquet)"
        )
    whole, other = (Table(p, **BY_CASE, val_fraction=0.5).read() for p in (csv_path, path))
    assert whole.fingerprint["tokens_sha256"] == other.fingerprint["tokens_sha256"]
    assert sequences(Table(lists, val_path=lists).read())[:2] == ["a b", "c"]
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"log.parquet: cannot be read as Parquet: "):
        Table(path, **BY_CASE).read()


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("a,b\n1,2\n3\n", {"symbol": "a"}, r"line 3 has 1 values, and the first row has 2; give every row the same number"),
        ("a,b\n1,2\n3,4,5\n", {"symbol": "a"}, r"line 3 has 3 values, and the first row has 2"),
        (
            'a,b\n1,"2\n3,4\n',
            {"symbol": "a"},
            r"line 3: no CSV: unexpected end of data; data.quotes=false reads quotes as any other sign$",
        ),
        ("a,b\n1,\x002\n", {"symbol": "a"}, r"log.csv: holds zero bytes, so it is no UTF-8"),
        ("a,a\n1,2\n", {"symbol": "a"}, r"two columns have the name 'a'; rename one, or give data.header=false"),
        ("a,b\n", {"symbol": "a"}, r"holds no symbols; give a table with rows"),
        ("\n\n", {}, r"holds no rows; give a table"),
        ("a,b\n1,2\n", {}, r"^data.symbol: data.path=\S+ has the columns a, b; name the one with the symbols$"),
        (
            "activity,b\n1,2\n",
            {"symbol": "activty"},
            r"^data.symbol=activty: \S+ has the columns activity, b; did you mean activity\?",
        ),
        ("a,b\n1,2\n", {"symbol": "a", "sequence": "c"}, r"^data.sequence=c: \S+ has the columns a, b; name one of them$"),
        ("a,b\nx,2\n,3\n", {"symbol": "a"}, r"line 3: a is empty; give data.missing=skip or data.missing=symbol"),
        ("a,b\nx,1\ny,\n", {"symbol": "a", "sequence": "b"}, r"line 3: b is empty, so the row belongs to no sequence"),
        ("a,b\nx,1\ny,z\n", {"symbol": "a", "order": "b"}, r"line 3: b='z' is no number and no time; times other than"),
        ("a,b\nx,1\ny,nan\n", {"symbol": "a", "order": "b"}, r"line 3: b='nan' is no number and no time"),
        (
            "a,b\nx,1\ny,2021-01-01\n",
            {"symbol": "a", "order": "b"},
            r"line 3: b='2021-01-01' is a time, and other rows have a number",
        ),
        (
            "a,b\nx,2021-01-01\ny,2021-01-01T10:00Z\n",
            {"symbol": "a", "order": "b"},
            r"is a time with a zone, and other rows have a time; give one kind",
        ),
        ("e\nx\n\ny\n", {"symbol": "e"}, r"line 3: e is empty; give data.missing=skip or data.missing=symbol"),
        ("abc\nde\nfg\n", {}, r"its first line, abc, may name the column or be data; give data.header=true or false$"),
        ("a,b\nx,1\na,b\ny,2\n", {"symbol": "a"}, r"line 3 is the header again; give each export as a file, or remove"),
        ("a,b\n1,1\n", {"symbol": ["a", "b"], "one_hot": True}, r"line 2: not one-hot; a row must hold a single 1"),
    ],
)
def test_what_cannot_be_read_is_named(text: str, settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        Table(write(tmp_path, text), **settings).read()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{bad", r"line 2: no JSON: .*; give an object per line$"),
        ("[1]", r"line 2: not an object; give one such as"),
        ('{"e": {"a": 1}}', r"line 2: e: holds lists or objects inside; allowed are texts, numbers, and lists of them$"),
        ('{"e": NaN}', r"line 2: e is empty; give data.missing=skip or data.missing=symbol$"),
        ('{"e": ["a"]}', r"line 2: e holds a list, unlike the records before; give one kind$"),
        ('{"e": ' + "[" * 10**5 + "]" * 10**5 + "}", r"line 2: no JSON"),
    ],
)
def test_records_that_cannot_be_read_are_named(line: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        Table(write(tmp_path, f'{{"e": "a"}}\n{line}\n', "r.jsonl"), symbol="e").read()


def test_settings_that_do_not_fit_together_are_refused() -> None:
    for settings, message in (
        ({"by": "characters", "sequence": "a"}, "by=characters reads each row as a sequence"),
        ({"one_hot": True, "symbol": "a"}, r"one_hot=true: give the columns as symbol=\[a,b,c\]"),
        ({"delimiter": "ab"}, "allowed is a single character"),
    ):
        with pytest.raises(UserError, match=message):
            checked(Table, {"path": "x", **settings})


def test_a_case_in_two_splits_is_refused(tmp_path: Path) -> None:
    path, other = write(tmp_path, LOG), write(tmp_path, "case,activity,time\n3,a,2021-01-05\n2,c,2021-01-05\n", "val.csv")
    with pytest.raises(
        UserError, match=r"^data.val_path=\S+val.csv: case=2 is also in another split; a sequence belongs to"
    ):
        Table(path, **BY_CASE, val_path=other).read()


def test_cases_are_told_apart_without_the_blanks_around_them(tmp_path: Path) -> None:
    path = write(tmp_path, "case,e\nC1,a\n C1 ,b\n01,a\n1,a\n")
    corpus = Table(path, sequence="case", val_path=write(tmp_path, "case,e\nC2,a\n", "val.csv")).read()
    assert (sequences(corpus)[:3], corpus.train.names) == (["a b", "a", "a"], ["C1", "01", "1"])


def test_files_of_other_splits_are_left_out(tmp_path: Path) -> None:
    for name, event in (("1.csv", "x"), ("2.csv", "y"), ("3.csv", "z")):
        write(tmp_path, f"n,e\n1,{event}\n2,{event}\n", name)
    corpus = Table(str(tmp_path), symbol="e", val_path=str(tmp_path / "2.csv")).read()
    assert sequences(corpus) == ["x x z z", "\N{REPLACEMENT CHARACTER} \N{REPLACEMENT CHARACTER}"]
    assert corpus.fingerprint["read"].endswith(
        "; 2 files in order of their names; files of other splits that were left out: 1"
    )


def test_the_first_file_decides_whether_there_are_headers(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    write(folder, "a1\na2\na1\n", "1.csv")
    write(folder, "START\na1\na2\na1\n", "2.csv")
    corpus = Table(str(folder), val_fraction=0.1).read()
    assert sequences(corpus)[0] == "a1 a2 a1 START a1 a2"


def test_codec_bytes_is_no_way_out_for_a_table(tmp_path: Path) -> None:
    for content, line in (
        (b"a,b\n\xff,1\n", "byte 4 (0xff) is not UTF-8; give a text in UTF-8"),
        (b"a,b\n\x00,1\n", "holds zero bytes, so it is no UTF-8 text; give a text in UTF-8"),
        (b"PK\3\4\x00\xff", "is no text but an archive, such as an Excel file; save it as CSV or text"),
    ):
        (tmp_path / "t.csv").write_bytes(content)
        with pytest.raises(UserError) as error:
            Table(str(tmp_path / "t.csv"), symbol="a").read()
        assert str(error.value) == f"{tmp_path / 't.csv'}: {line}"


def test_rows_that_are_there_twice_are_told(tmp_path: Path) -> None:
    twice = LOG + "2,b,2021-01-04 09:00:00\n"
    corpus = Table(write(tmp_path, twice), **BY_CASE, val_fraction=0.5).read()
    assert corpus.fingerprint["read"].endswith("1 rows are there twice, with the same symbol at the same time")


names = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8).filter(str.strip)
events = st.lists(st.tuples(st.integers(1, 6), names, st.integers(0, 5)), min_size=2, max_size=40)


@given(
    rows=events,
    delimiter=st.sampled_from(",;\t|"),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    seed=st.integers(0, 9),
)
def test_any_log_in_any_order_gives_the_sequences_of_a_plain_sort(
    rows: list[tuple[int, str, int]], delimiter: str, quoting: Any, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    random.Random(seed).shuffle(rows)
    table = io.StringIO(newline="")
    writer = csv.writer(table, delimiter=delimiter, quoting=quoting)
    writer.writerows([("case", "activity", "time"), *((f"c{c}", a, t) for c, a, t in rows)])
    path = write(tmp_path_factory.mktemp("table"), table.getvalue())
    source = Table(
        path, sequence="case", symbol="activity", order="time", delimiter=delimiter, split="end", val_fraction=0.5
    )
    expected: dict[int, list[tuple[int, str]]] = {}
    for case, activity, time in rows:
        expected.setdefault(case, []).append((time, activity.strip()))
    ordered = [sorted(found, key=lambda row: row[0]) for found in expected.values()]
    ordered.sort(key=lambda found: found[0][0])
    log = source._log(path, "data.path", source.codecs["symbols"])
    assert log.sequences == [[activity for _, activity in found] for found in ordered]


def test_json_numbers_keep_their_text(tmp_path: Path) -> None:
    content = "".join(json.dumps({"e": value}) + "\n" for value in (1, 1.0, 10**30, "1"))
    path = write(tmp_path, content, "n.jsonl")
    assert sequences(Table(path, val_path=path).read())[0].split() == ["1", "1.0", str(10**30), "1"]
