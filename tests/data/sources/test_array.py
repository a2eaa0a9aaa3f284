"""Steps in arrays of NumPy, told apart by their numbers."""

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as arrays

from throughline.data import arrays as reading
from throughline.data.corpus import Corpus
from throughline.data.sources.array import Array
from throughline.plumbing.errors import UserError

EYE = np.eye(3)


def saved(folder: Path, array: Any, **named: Any) -> str:
    if named:
        np.savez_compressed(folder / "a.npz", **named)
        return str(folder / "a.npz")
    np.save(folder / "a.npy", array)
    return str(folder / "a.npy")


def sequences(corpus: Corpus) -> list[str]:
    """The training sequences, written out."""
    line = corpus.train
    begins = [0, *line.ends[:-1].tolist()] if line.ended else [-1]
    ends = line.ends.tolist() if line.ended else [len(line.steps)]
    return [corpus.codec.decode(line.steps[b + 1 : e].tolist()) for b, e in zip(begins, ends, strict=True)]


@pytest.mark.parametrize(
    ("array", "settings", "found", "said"),
    [
        (np.array([3, 1, 3, 10]), {}, ["3 1 3 10"], "4 categories 1 to 10"),
        (np.array([3.0, 1.0, -2.0]), {}, ["3 1 -2"], "3 categories -2 to 3"),
        (np.array([[3], [1]], np.uint8), {}, ["3 1"], "2 categories 1 to 3"),
        (np.array([[3, 1], [2, 2]]), {}, ["3 1", "2 2"], "2 sequences of 2 categories 1 to 3"),
        (EYE[[2, 0, 2]], {}, ["2 0 2"], "3 one-hot rows of 3 features"),
        (EYE[[2, 0]].astype(bool), {}, ["2 0"], "2 one-hot rows of 3 features"),
        (
            np.vstack([EYE[[2, 0]], np.zeros(3), EYE[1]]).astype(np.float16),
            {},
            ["2 0 rest 1"],
            "4 one-hot rows of 3 features, 1 of them without a 1: rest",
        ),
        (EYE[[[2, 0], [1, 1]]], {}, ["2 0", "1 1"], "2 sequences of 2 one-hot rows of 3 features"),
        (
            np.stack([EYE[[2, 0, 1]], np.vstack([EYE[1], np.zeros((2, 3))])]),
            {},
            ["2 0 1", "1"],
            "2 sequences of 1 to 3 one-hot rows of 3 features, without 2 steps of padding",
        ),
        (
            np.stack([EYE[[2, 0, 1]], np.vstack([np.zeros((2, 3)), EYE[1]]), np.vstack([np.zeros(3), EYE[[1, 1]]])]),
            {},
            ["2 0 1", "1", "1 1"],
            "3 sequences of 1 to 3 one-hot rows of 3 features, without 3 steps of padding",
        ),
        (
            np.stack([np.vstack([np.zeros(3), EYE[[1, 1]]]), np.vstack([EYE[1], np.zeros((2, 3))]), EYE[[1, 1, 0]]]),
            {},
            ["rest 1 1", "1", "1 1 0"],
            "3 sequences of 1 to 3 one-hot rows of 3 features, without 2 steps of padding",
        ),
        (np.array(["b", "a b", "b"]), {}, ["b, a b, b"], "3 texts, 2 different ones"),
        (
            np.array([["b", "a"], ["a", ""]]),
            {},
            ["b a", "a"],
            "2 sequences of 1 to 2 texts, 2 different ones, without 1 steps",
        ),
        (
            np.array([[3, 1, 0], [2, 0, 0]]),
            {},
            ["3 1 0", "2 0 0"],
            "2 sequences of 3 categories 0 to 3; 0 stands only at one end of the rows: data.padding=0 takes it for padding",
        ),
        (
            np.array([[3, 1, 0], [2, 0, 0]]),
            {"padding": 0},
            ["3 1", "2"],
            "2 sequences of 1 to 2 categories 0 to 3, without 3 steps",
        ),
        (
            np.array([[0, 3, 0, 1], [0, 0, 0, 2]]),
            {"padding": 0},
            ["3 0 1", "2"],
            "2 sequences of 1 to 3 categories 0 to 3, without",
        ),
        (np.array([[0, 3], [1, 0], [0, 2]]), {}, ["0 3", "1 0", "0 2"], "3 sequences of 2 categories 0 to 3"),
        (np.array([[0, 1], [1, 1]]), {"kind": "categories"}, ["0 1", "1 1"], "2 sequences of 2 categories 0 to 1"),
        (np.array([b"b\xff", b"b\xfe", b"a"]), {}, [r"b\xff b\xfe a"], "3 texts, 3 different ones"),
        (
            np.stack([np.vstack([0.9995 * EYE[[2, 0]], np.zeros(3)])] * 2),
            {"largest": True},
            ["2 0", "2 0"],
            "2 sequences of 2 one-hot rows of 3 features, without 2 steps of padding",
        ),
        (0.9995 * EYE[[2, 0]] + 0.00025 * (1 - EYE[[2, 0]]), {"largest": True}, ["2 0"], "2 one-hot rows of 3 features"),
    ],
)
def test_an_array_written_out(
    array: np.ndarray, settings: dict[str, Any], found: list[str], said: str, tmp_path: Path
) -> None:
    path = saved(tmp_path, array)
    corpus = Array(path, **settings, val_path=path).read()
    assert sequences(corpus) == found
    assert corpus.fingerprint["read"].startswith(said)
    assert corpus.train.joined == (len(found) == 1)


def test_lengths_cut_sequences(tmp_path: Path) -> None:
    steps = np.array([[3, 1, 1], [2, 2, 0]])
    path = saved(tmp_path, None, x=steps, lengths=np.array([3, 2]))
    corpus = Array(path, val_path=path).read()
    assert sequences(corpus) == ["3 1 1", "2 2"]
    assert corpus.fingerprint["read"] == "2 sequences of 2 to 3 categories 1 to 3, by their lengths"
    np.save(tmp_path / "lengths.npy", np.array([1, 0]))
    plain = saved(tmp_path, steps)
    beside = Array(plain, lengths_path=str(tmp_path / "lengths.npy"), val_path=path).read()
    assert sequences(beside) == ["3", ""]


def test_the_data_of_another_split_are_of_the_same_kind(tmp_path: Path) -> None:
    several = saved(tmp_path, None, x=np.array([[3, 1], [2, 2]]))
    other = str(tmp_path / "other.npy")
    np.save(other, np.array([[0, 1], [1, 0]]))  # alone, it would be one-hot
    assert Array(several, val_path=other).read().val.steps.tolist() == [4, 0, 1, 4, 1, 0, 4]
    for array, kind in (
        (np.array([3, 1, 2]), "categories"),
        (EYE[[[2, 0], [1, 1]]], "one_hot"),
        (np.array([["a", "b"]]), "texts"),
        (np.array([[0.5, 1.5]]), "real"),
    ):
        np.save(other, array)
        with pytest.raises(
            UserError, match=rf"^data.val_path=\S+: {kind} in the shape \(.*\), but data.path has categories in \(2, 2\); "
        ):
            Array(several, val_path=other).read()
    np.save(other, np.array([[0, 1, 0, 0]]))
    with pytest.raises(UserError, match=r"one_hot in the shape \(1, 4\), but data.path has one_hot in \(2, 3\); give"):
        Array(saved(tmp_path, EYE[[2, 0]]), val_path=other).read()
    np.save(tmp_path / "lengths.npy", np.array([1, 0]))
    plain = saved(tmp_path, np.array([[3, 1], [2, 2]]))
    with pytest.raises(
        UserError, match=r"^data.val_path=\S+: has no lengths; give a .npz file with an array `lengths` in it"
    ):
        Array(plain, lengths_path=str(tmp_path / "lengths.npy"), val_path=plain).read()
    np.savez(tmp_path / "lengths.npz", np.array([1, 0]))
    several = saved(tmp_path, None, x=np.array([[3, 1], [2, 2]]), lengths=np.array([2, 2]))
    beside = Array(plain, lengths_path=str(tmp_path / "lengths.npz"), val_path=several).read()
    assert sequences(beside) == ["3", ""]


@pytest.mark.parametrize("array", [np.array([[3, 1], [2, 2]]), np.array([9, 1, 2]), EYE[[[0, 1], [1, 1]]]])
def test_padding_that_cuts_nothing_off_is_refused(array: np.ndarray, tmp_path: Path) -> None:
    path = saved(tmp_path, array)
    with pytest.raises(UserError, match=r"^data.padding=9: is no category of the rows in \S+; leave it out$"):
        Array(path, padding=9, val_path=path).read()


def test_an_array_of_an_archive_is_named(tmp_path: Path) -> None:
    path = saved(tmp_path, None, x=np.array([1, 2]), y=np.array([2, 1]))
    assert sequences(Array(path, key="y", val_path=path).read()) == ["2 1"]
    with pytest.raises(UserError, match=r"^data.key=None: data.path=\S+a.npz has the arrays x, y; name one of them$"):
        Array(path).read()


def damaged() -> bytes:
    file = io.BytesIO()
    np.save(file, np.arange(100))
    return file.getvalue()[:-9]


def bomb() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", bytes(2**22))
    return file.getvalue()


NAN = np.ones((2, 3))
NAN[1, 2] = np.nan


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (
            0.9 * EYE + 0.05 * (1 - EYE),
            r"softened one-hot rows, whose largest value is 0.9 rather than 1; give",
        ),
        (NAN, r"row 1, column 2 is nan; give finite numbers"),
        (np.array([1.0, np.inf]), r"row 1 is inf; give finite numbers"),
        (np.zeros((2, 2, 2, 2)), r"an array of float64 with shape \(2, 2, 2, 2\); allowed are numbers in the shapes"),
        (np.array(3), r"an array of int64 with shape \(\)"),
        (np.zeros(0), r"an array of float64 with shape \(0,\)"),
        (np.array([1j]), r"an array of complex128"),
        (np.zeros(2, [("a", int)]), r"an array of \[\('a', '<i8'\)\] with shape"),
        (np.array([[["a"]]]), r"an array of <U1 with shape \(1, 1, 1\)"),
        (np.arange(8).reshape(2, 2, 2), r"rows of 2 whole numbers from 0 to 7, which are not one-hot; data.kind=real"),
        (np.array(["a", "b", ""]), r"value 3 is '', which is no symbol; characters are read from a text file$"),
        (np.array([["a", " "], ["b", ""]]), r"value 2 is ' ', which is no symbol"),
        (
            np.vstack([EYE[[0, 1] * 10], [[1, 0, 1]], EYE]),
            r"row 20 has 2 ones, where others have one; mend it, or give data.kind=multi_hot$",
        ),
        (np.array([["a", ""], ["", "b"]]), r"an empty text stands inside a sequence"),
    ],
)
def test_what_is_no_symbol_is_named(array: np.ndarray, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        Array(saved(tmp_path, array)).read()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps([1, 2]), "a pickle, which is never read, because it may run any program; save it with numpy.save"),
        (b"a,b", "no array of NumPy; give a .npy or .npz file, or data=table, data=lines or data=text"),
        (damaged(), r"its header claims the shape \(100,\), which is not the size of the file"),
        (b"PK\3\4 and more", "cannot be read as .npz"),
        (b"\x93NUMPY\x01\x00", "no array that can be read safely"),
    ],
)
def test_files_that_hold_no_array_are_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(UserError, match=message):
        Array(str(tmp_path / "a.npy")).read()


def test_objects_and_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "a.npy", np.array([[1], [1, 2]], object), allow_pickle=True)
    with pytest.raises(UserError, match=r"a.npy: holds Python objects, as arrays of unlike lengths do; they are not read."):
        Array(str(tmp_path / "a.npy")).read()
    monkeypatch.setattr(reading, "MOST_BYTES", 2**20)
    (tmp_path / "b.npz").write_bytes(bomb())
    with pytest.raises(UserError, match=r"b.npz: its arrays take more than 1,048,576 bytes; give them as .npy"):
        Array(str(tmp_path / "b.npz")).read()


@pytest.mark.parametrize("lengths", [np.array([3, 4]), np.array([3]), np.array([-1, 1]), np.array([1.0, 1.0])])
def test_wrong_lengths_are_refused(lengths: np.ndarray, tmp_path: Path) -> None:
    path = saved(tmp_path, None, x=np.array([[3, 1, 1], [2, 2, 0]]), lengths=lengths)
    with pytest.raises(UserError, match=r"its lengths must be 2 whole numbers from 0 to 3, one for each sequence"):
        Array(path).read()
    with pytest.raises(UserError, match=r"its lengths must be whole numbers that add up to its 5 steps$"):
        Array(saved(tmp_path, None, x=np.arange(5), lengths=lengths)).read()


categories = arrays.arrays(np.int16, st.integers(2, 60), elements=st.integers(-5, 5))


@given(steps=categories, way=st.sampled_from(["categories", "one-hot"]))
def test_any_categories_are_read_as_they_stand(
    steps: np.ndarray, way: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("array")
    path = saved(folder, steps if way == "categories" else np.eye(11, dtype=np.int8)[steps + 5])
    corpus = Array(path, val_path=path).read()
    assert sequences(corpus) == [" ".join(str(s if way == "categories" else s + 5) for s in steps.tolist())]
