import pickle
from pathlib import Path

import numpy as np
import pytest
from throughline.data.sources.events import Events

from throughline.plumbing.errors import UserError


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32])
def test_one_hot_rows(tmp_path: Path, dtype: type) -> None:
    path = tmp_path / "events.npy"
    np.save(path, np.eye(3, dtype=dtype)[[2, 0, 2, 1, 2]])
    corpus = Events(path=str(path), val_fraction=0.4).read()
    assert corpus.codec.symbols == ["0", "2"]
    assert corpus.train.steps.tolist() == [2, 1, 2]
    assert corpus.val.steps.tolist() == [0, 2]
    assert corpus.codec.decode([2, 1]) == "2 0"


@pytest.mark.parametrize("row", [[0, 0, 0], [1, 1, 0], [0.5, 0.5, 0], [2, -1, 0], [1, np.nan, 0]])
def test_a_row_that_is_not_one_hot_is_named(tmp_path: Path, row: list[float]) -> None:
    path = tmp_path / "events.npy"
    np.save(path, np.array([[1, 0, 0], [0, 0, 1], row, row]))
    with pytest.raises(UserError, match=r"events.npy: row 2 is not one-hot \(2 of 4 rows are not\); each row must hold"):
        Events(path=str(path)).read()


def test_other_arrays_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "events.npy"
    np.save(path, np.zeros(4))
    with pytest.raises(UserError, match=r"an array of float64 with shape \(4,\); allowed are numbers in the shape"):
        Events(path=str(path)).read()
    path.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(UserError, match=r"^data.path=\S+events.npy: not an array that can be read safely"):
        Events(path=str(path)).read()


@pytest.mark.parametrize(("column", "header"), [(None, "event"), ("event", "time,event")])
def test_a_column_of_symbols(tmp_path: Path, column: str | None, header: str) -> None:
    path = tmp_path / "events.csv"
    prefix = "7," if "," in header else ""
    path.write_text("\n".join([header, *(prefix + symbol for symbol in ("login", "view", "login", "buy", "view"))]))
    corpus = Events(path=str(path), column=column, val_fraction=0.4).read()
    assert corpus.codec.symbols == ["login", "view"]
    assert corpus.train.steps.tolist() == [1, 2, 1]
    assert corpus.val.steps.tolist() == [0, 2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n", r"^data.column=None: \S+events.csv has the columns a, b; name one of them$"),
        ("a\nx\ny z\n", r"events.csv: line 3: a='y z'; a symbol must not be empty or hold white space$"),
        ("", r"events.csv: the file is empty"),
        ('a\n"x"y\n', r"events.csv: line 2: not CSV: "),
    ],
)
def test_columns_that_cannot_be_used_are_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "events.csv").write_text(content)
    with pytest.raises(UserError, match=message):
        Events(path=str(tmp_path / "events.csv")).read()


def test_another_ending_is_refused(tmp_path: Path) -> None:
    (tmp_path / "events.pkl").write_text("x")
    with pytest.raises(UserError, match=r"unknown ending '.pkl'; allowed are .npy and .csv"):
        Events(path=str(tmp_path / "events.pkl")).read()


def test_a_byte_order_mark_is_no_part_of_a_column_name(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text("event,x\na,1\nb,1\na,1\nb,1\n", encoding="utf-8-sig")
    assert Events(path=str(tmp_path / "events.csv"), column="event", val_fraction=0.5).read().codec.symbols == ["a", "b"]


def test_an_archive_of_arrays_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "events.npz", a=np.eye(2))
    (tmp_path / "events.npz").rename(tmp_path / "events.npy")
    with pytest.raises(UserError, match="not an array that can be read safely"):
        Events(path=str(tmp_path / "events.npy")).read()
