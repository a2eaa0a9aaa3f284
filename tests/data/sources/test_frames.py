"""Frames in arrays and tables: told apart from symbols, found in files as people bring them, and refused."""

import json
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as arrays

from helpers import shared_data
from throughline.data.codecs.frames import Frames
from throughline.data.codecs.symbols import Symbols
from throughline.data.corpus import Corpus
from throughline.data.sources.array import Array
from throughline.data.sources.table import Table
from throughline.plumbing.errors import UserError

ROLL = np.array([[1, 1, 0], [0, 1, 0], [1, 0, 1]])
REAL = np.array([[0.5, 3.0], [1.5, -2.0], [1.0, 7.25]])
GENERATOR = np.random.default_rng(0)
KEYS = (GENERATOR.random((40, 88)) < 0.05).astype(np.uint8)
"""A piano roll."""


def saved(folder: Path, array: Any = None, name: str = "a", **named: Any) -> str:
    if named:
        np.savez(folder / f"{name}.npz", **named)
        return str(folder / f"{name}.npz")
    np.save(folder / f"{name}.npy", array)
    return str(folder / f"{name}.npy")


def frames(corpus: Corpus, split: str = "train") -> list[Any]:
    """The sequences of a split, in the units of the data, rounded."""
    assert isinstance(corpus.codec, Frames)
    line = corpus.line(split)
    steps = corpus.codec.raw(line.steps)[int(line.ended) :]
    return [np.round(part.astype(float), 4).tolist() for part in np.split(steps, line.ends[:-1] if line.ended else [])]


@pytest.mark.parametrize(
    ("array", "settings", "found", "said"),
    [
        (ROLL, {}, [ROLL], "3 frames of 3 features, 1.7 set on average: multi-hot, head=bernoulli"),
        (ROLL.astype(bool), {}, [ROLL], "3 frames of 3 features, 1.7 set on average: multi-hot, head=bernoulli"),
        (np.stack([ROLL, ROLL]), {}, [ROLL, ROLL], "2 sequences of 3 frames of 3 features, 1.7 set on average: multi-hot"),
        (
            np.stack([ROLL, ROLL * [[1], [1], [0]], ROLL * [[1], [0], [0]]]),
            {"padding": 0},
            [ROLL, ROLL[:2], ROLL[:1]],
            "3 sequences of 1 to 3 frames of 3 features, 1.7 set on average: multi-hot, head=bernoulli, without 3 steps of",
        ),
        (
            ROLL * 90,
            {"kind": "multi_hot"},
            [ROLL],
            "3 frames of 3 features, 1.7 set on average: multi-hot, head=bernoulli, numb",
        ),
        (np.eye(3)[[0, 2, 2]], {"kind": "multi_hot"}, [np.eye(3)[[0, 2, 2]]], "3 frames of 3 features, 1.0 set on average"),
        (np.packbits(KEYS, axis=1), {}, [KEYS], "packed bits; 40 frames of 88 features, "),
        (
            np.packbits(ROLL, axis=1),
            {"kind": "packed"},
            [np.pad(ROLL, ((0, 0), (0, 5)))],
            "packed bits; 3 frames of 8 features",
        ),
        (REAL, {}, [REAL], "3 frames of 2 real numbers, head=mixture"),
        (REAL.astype(np.float16), {}, [REAL], "3 frames of 2 real numbers, head=mixture"),
        (REAL[:, 0], {}, [REAL[:, :1]], "3 frames of 1 real number, head=mixture"),
        (REAL[:, :1], {}, [REAL[:, :1]], "3 frames of 1 real number, head=mixture"),
        (np.stack([REAL, REAL]), {}, [REAL, REAL], "2 sequences of 3 frames of 2 real numbers, head=mixture"),
        (np.stack([REAL, REAL])[..., :1], {}, [REAL[:, :1]] * 2, "2 sequences of 3 frames of 1 real number, head=mixture"),
        (
            np.stack([REAL, np.where([[True], [True], [False]], REAL, np.nan)]),
            {},
            [REAL, REAL[:2]],
            "2 sequences of 2 to 3 frames of 2 real numbers, head=mixture, without 1 steps of padding (nan)",
        ),
        (np.array([4, 9, 7]), {"kind": "real"}, [[[4], [9], [7]]], "3 frames of 1 real number, head=mixture"),
        (np.array([[4, 9], [3, 7]]), {"kind": "real"}, [[[4, 9], [3, 7]]], "2 frames of 2 real numbers, head=mixture"),
    ],
)
def test_frames_written_out(
    array: np.ndarray, settings: dict[str, Any], found: list[Any], said: str, tmp_path: Path
) -> None:
    path = saved(tmp_path, array)
    corpus = Array(path, **settings, val_path=path).read()
    assert frames(corpus) == [np.asarray(sequence).tolist() for sequence in found]
    assert corpus.fingerprint["read"].startswith(said)
    assert (corpus.train.joined, corpus.train.ended) == (array.ndim < 3, array.ndim > 2)
    assert isinstance(corpus.codec, Frames)
    again = Array(path, **settings, val_path=path).read(corpus.codec)  # as for a checkpoint
    np.testing.assert_array_equal(again.val.steps, corpus.val.steps)


LENGTHS = np.array([15, 5, 20])
PARTS = np.split(KEYS, [15, 20])
PADDED = np.stack([np.pad(part, ((0, 20 - len(part)), (0, 0))) for part in PARTS])


@pytest.mark.parametrize(
    "named",
    [
        {"x": KEYS, "lengths": LENGTHS},
        {"x": KEYS, "x_len": LENGTHS},
        {"rolls": PADDED, "lengths": LENGTHS},
        {"x": np.packbits(KEYS, axis=1), "lengths": LENGTHS},
        {f"arr_{i}": part for i, part in enumerate(PARTS)},
        {f"tune{i + 9}": part.astype(float) for i, part in enumerate(PARTS)},
    ],
    ids=lambda named: " ".join(named),
)
def test_sequences_of_frames_in_one_file(named: dict[str, Any], tmp_path: Path) -> None:
    path = saved(tmp_path, **named)
    corpus = Array(path, val_path=path).read()
    assert frames(corpus) == [part.tolist() for part in PARTS]
    assert (
        corpus.fingerprint["read"].removeprefix("packed bits; ").startswith("3 sequences of 5 to 20 frames of 88 features, ")
    )
    assert frames(Array(path, val_path=path, joined=True).read()) == frames(corpus)


@pytest.mark.parametrize(
    "named",
    [
        {"train": KEYS, "train_len": LENGTHS, "valid": PARTS[1], "valid_len": np.array([2, 3]), "test": PARTS[0]}
        | {"test_len": np.array([15])},
        {"lengths_train": LENGTHS, "traindata": KEYS, "validdata": PARTS[1], "testdata": PARTS[0]}
        | {"traindata_lengths": LENGTHS, "validdata_lengths": np.array([2, 3]), "testdata_lengths": np.array([15])},
        {f"train_{i}": part for i, part in enumerate(PARTS)}
        | {"dev_0": KEYS[15:17], "dev_1": KEYS[17:20], "test/0": PARTS[0]}
        | {"test/1": PARTS[0][:0]},
    ],
    ids=["polymusic", "mat", "numbered"],
)
def test_a_file_brings_its_splits(named: dict[str, Any], tmp_path: Path) -> None:
    corpus = Array(saved(tmp_path, **named)).read()
    assert frames(corpus) == [part.tolist() for part in PARTS]
    assert frames(corpus, "val") == [KEYS[15:17].tolist(), KEYS[17:20].tolist()]
    assert frames(corpus, "test") == [PARTS[0].tolist()]


def test_splits_of_one_sequence_and_of_symbols(tmp_path: Path) -> None:
    corpus = Array(saved(tmp_path, train=KEYS, test=ROLL @ np.zeros((3, 88)))).read()
    assert [len(frames(corpus, split)[0]) for split in ("train", "val", "test")] == [36, 4, 3]
    assert corpus.train.joined
    corpus = Array(saved(tmp_path, train=np.array([3, 1, 3]), valid=np.array([1, 2]))).read()
    assert corpus.codec.decode(corpus.val.steps.tolist()) == "1 \N{REPLACEMENT CHARACTER}"
    numbered = Array(saved(tmp_path, train_0=np.array([3, 1]), train_1=np.array([1]), val_0=np.array([1]))).read()
    assert numbered.codec.decode(numbered.train.steps.tolist()) == "\n3 1\n1\n"
    assert numbered.train.names == ["train_0", "train_1"]


def test_a_folder_holds_a_sequence_in_each_file(tmp_path: Path) -> None:
    (tmp_path / "rolls").mkdir()
    (tmp_path / "held").mkdir()
    for i, part in enumerate(PARTS):
        saved(tmp_path / ("held" if i == 1 else "rolls"), part, f"piece{i}")
    corpus = Array(str(tmp_path / "rolls"), val_path=str(tmp_path / "held")).read()
    assert frames(corpus) == [PARTS[0].tolist(), PARTS[2].tolist()]
    assert frames(corpus, "val") == [PARTS[1].tolist()]
    assert [Path(name).name for name in corpus.train.names or ()] == ["piece0.npy", "piece2.npy"]
    saved(tmp_path / "rolls", x=KEYS, lengths=LENGTHS)
    with pytest.raises(UserError, match=r"a.npz: holds several sequences; of several files, each is a sequence$"):
        Array(str(tmp_path / "rolls")).read()


NAN = np.where(np.arange(6).reshape(3, 2) == 3, np.nan, REAL)


@pytest.mark.parametrize(
    ("named", "settings", "message"),
    [
        ({"x": NAN}, {}, r"row 1, column 1 is nan; give finite numbers"),
        ({"x": np.stack([REAL, NAN])}, {}, r"row 1, column 1, feature 1 is nan; give finite numbers"),
        ({"x": np.vstack([REAL, NAN]), "lengths": [3, 3]}, {}, r"sequence 1, row 1, column 1 is nan; give finite"),
        ({"a0": REAL, "a1": NAN}, {}, r"a1, row 1, column 1 is nan; give finite"),
        (
            {"x": KEYS.T},
            {},
            r"88 rows and 40 columns, mostly zeros: a piano roll with the time last\? Save it transposed; data.ki",
        ),
        (
            {"x": KEYS * 90},
            {},
            r"rows of 88 numbers up to 90, mostly zeros: a piano roll with velocities\? data.kind=multi_hot",
        ),
        ({"x": KEYS * 0}, {}, r"no feature of any frame is set, so there is nothing to learn$"),
        (
            {"x": KEYS, "lengths": [30, 9]},
            {},
            r"its lengths must be 40 whole numbers from 0 to 88, one for each sequence, or add",
        ),
        ({"x": PADDED, "lengths": [30, 9]}, {}, r"its lengths must be 3 whole numbers from 0 to 20, one for each sequence$"),
        (
            {"a0": ROLL, "a1": KEYS},
            {},
            r"a1 has the shape \(40, 88\) \(uint8\), and a0 \(3, 3\) \(int64\); give sequences of one",
        ),
        (
            {"a0": PADDED, "a1": PADDED},
            {},
            r"a0 has the shape \(3, 20, 88\); of several arrays, each is a sequence: \(steps,\) or",
        ),
        (
            {"train": KEYS, "valid": ROLL},
            {},
            r"a.npz: val: multi_hot in the shape \(3, 3\), but data.path has multi_hot in \(40, 8",
        ),
        (
            {"train": ROLL, "valid": 2 * ROLL},
            {"kind": "auto"},
            r"val: has other numbers than 0 and 1; data.kind=multi_hot takes",
        ),
        (
            {"train": KEYS, "valid": KEYS, "lengths": [40]},
            {},
            r"^data.key=None: \S+ has the arrays train, valid; name one of them$",
        ),
        (
            {"train": KEYS, "valid": KEYS},
            {"val_path": "x"},
            r"^data.val_path=x: \S+ brings its own split val; leave it out$",
        ),
        (
            {"train": KEYS, "test": KEYS},
            {"test_fraction": 0.2},
            r"^data.test_fraction=0.2: \S+ brings its own split test; leave",
        ),
        (
            {"x": REAL},
            {"kind": "categories"},
            r"^data.kind=categories: \S+ holds real numbers; give data.kind=real, or leave",
        ),
        (
            {"x": REAL},
            {"kind": "packed"},
            r"^data.kind=packed: \S+ holds real numbers; give data.kind=real, or leave it out$",
        ),
        (
            {"x": REAL},
            {"kind": "multi_hot"},
            r"^data.kind=multi_hot: \S+: row 1, column 1 is -2.0; allowed are numbers from 0$",
        ),
        (
            {"x": ROLL},
            {"kind": "packed"},
            r"^data.kind=packed: \S+ is no array of rows of bytes \(uint8\), as numpy.packbits",
        ),
        (
            {"x": PADDED},
            {"kind": "categories"},
            r"^data.kind=categories: \S+ has 88 numbers a step; a category is one number$",
        ),
        (
            {"x": np.arange(5)},
            {"kind": "one_hot"},
            r"^data.kind=one_hot: \S+ has one number a step; a one-hot row has several$",
        ),
        ({"x": np.array(["a"])}, {"kind": "real"}, r"^data.kind=real: \S+ holds texts; leave it out$"),
        (
            {"x": np.ones((2, 3, 2)) * [[1], [0], [1]]},
            {"padding": 0},
            r"^data.padding=0: no row begins or ends with frames of it; leave it out$",
        ),
        ({"x": ROLL}, {"padding": 0}, r"^data.padding=0: is no frame of the rows in \S+; leave it out$"),
        ({"x": abs(REAL * [1, 0])}, {}, r"feature 1 is 0 in every frame of the training split; leave it out$"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    named: dict[str, Any], settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        Array(saved(tmp_path, **named), **settings).read()


def test_codecs_and_frames_that_do_not_suit_are_refused(tmp_path: Path) -> None:
    roll, row = saved(tmp_path, KEYS), saved(tmp_path, np.arange(5), "row")
    with pytest.raises(UserError, match=r"^codec=symbols: \S+ holds frames; give codec=auto, or data.kind=categories$"):
        Array(roll).read(Symbols())
    with pytest.raises(
        UserError, match=r"^codec=frames: \S+ holds symbols; give codec=auto, or data.kind=multi_hot or data.ki"
    ):
        Array(row).read(Frames())
    assert frames(Array(row).read(Frames(kind="real"))) == [[[0], [1], [2], [3]]]
    with pytest.raises(UserError, match=r"^data.val_path=\S+: has the splits train, val; give it as data.path alone$"):
        Array(roll, val_path=saved(tmp_path, name="both", train=KEYS, valid=KEYS)).read()
    with pytest.raises(UserError, match=r"^data.lengths_path=\S+: \S+ has lengths of its own; leave it out$"):
        Array(saved(tmp_path, x=KEYS, lengths=LENGTHS), lengths_path=saved(tmp_path, LENGTHS, "l")).read()
    with pytest.raises(UserError, match=r"^data.lengths_path=\S+: holds 2 arrays; give a file with one, the lengths$"):
        Array(roll, lengths_path=saved(tmp_path, name="two", a=LENGTHS, b=LENGTHS)).read()


def test_numbers_that_may_be_categories_get_a_hint(tmp_path: Path) -> None:
    read = Array(saved(tmp_path, np.arange(50.0))).read().fingerprint["read"]
    assert read == "50 categories 0 to 49; data.kind=real reads them as numbers"
    assert "real" not in Array(saved(tmp_path, np.arange(90.0) % 5)).read().fingerprint["read"]
    padded = Array(saved(tmp_path, PADDED)).read().fingerprint["read"]
    assert padded.endswith("; rows end with frames of zeros: data.padding=0 takes them for padding")


@pytest.mark.parametrize("start", [b"MATLAB 5.0 MAT-file", b"\x89HDF\r\n", b"MThd"])
def test_other_files_of_music_are_named(start: bytes, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(start + bytes(200))
    with pytest.raises(
        UserError, match=r"an? (MATLAB|HDF5|MIDI) file, not an array of NumPy; docs/data.md has the lines that"
    ):
        Array(str(tmp_path / "a")).read()


@given(
    array=arrays.arrays(np.float32, st.tuples(st.integers(6, 20), st.integers(1, 3)), elements=st.floats(-3, 3, width=32))
)
def test_any_real_frames_are_read_as_they_stand(array: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> None:
    array[0], array[1] = 0.5, -0.25  # none is constant
    path = saved(tmp_path_factory.mktemp("real"), array)
    np.testing.assert_allclose(frames(Array(path, val_path=path).read())[0], array, atol=1e-4)


def table(folder: Path, text: str, name: str = "t.csv") -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


@pytest.mark.parametrize(
    ("text", "settings", "found", "said"),
    [
        (
            "d,t\nx,0.5\ny,1.5\n",
            {"values": "t"},
            [[[0.5], [1.5]]],
            "2 frames of 1 real number, head=mixture; columns d, t; val",
        ),
        (
            "a,b\n1,5\n2,3\n",
            {"values": ["b", "a"]},
            [[[5, 1], [3, 2]]],
            "2 frames of 2 real numbers, head=mixture; columns a, b",
        ),
        ("a,b\n1,5\n2,3\n", {"values": "all"}, [[[1, 5], [2, 3]]], "2 frames of 2 real numbers, head=mixture; columns a, b"),
        (
            "a,b\n1,1\n0,1\n",
            {"values": "all"},
            [[[1, 1], [0, 1]]],
            "2 frames of 2 features, 1.5 set on average: multi-hot, he",
        ),
        (
            "a;b\nTrue;true\nFalse;true\n",
            {"values": "all"},
            [[[1, 1], [0, 1]]],
            "2 frames of 2 features, 1.5 set on average",
        ),
        (
            "a,b\n1,0\n0,1\n",
            {"values": "all"},
            [[[1, 0], [0, 1]]],
            "2 frames of 2 features, 1.0 set on average: multi-hot, he",
        ),
        (
            "1.5e-1 2\n3.5 7.25\n",
            {"values": "all"},
            [[[0.15, 2], [3.5, 7.25]]],
            "2 frames of 2 real numbers, head=mixture; no hea",
        ),
        ("a,b\n1,\n2,3\n4,NaN\n5,7\n", {"values": "b", "missing": "skip"}, [[[3], [7]]], "2 frames of 1 real number"),
        (
            "c,o,v\n1,2,0.5\n2,1,7.5\n1,1,1.5\n",
            {"values": "all", "sequence": "c", "order": "o", "split": "end", "val_fraction": 0.3},
            [[[1.5], [0.5]]],
            "2 sequences of 1 to 2 frames of 1 real number, head=mixture; columns c, o, v; values v",
        ),
        (
            "".join(
                json.dumps({"id": i, "s": row}) + "\n" for i, row in enumerate([[[1, 2.5], [3, 4]], [[5, 6]], [[7, 8]]])
            ),
            {"values": "s", "val_fraction": 0.3, "split": "end"},
            [[[1, 2.5], [3, 4]], [[5, 6]]],
            "3 sequences of 1 to 2 frames of 2 real numbers, head=mixture; columns id, s",
        ),
    ],
)
def test_a_table_of_numbers_written_out(
    text: str, settings: dict[str, Any], found: list[Any], said: str, tmp_path: Path
) -> None:
    path = table(tmp_path, text, "t.jsonl" if text.startswith("{") else "t.csv")
    settings = settings if "val_fraction" in settings else {**settings, "val_path": path}
    corpus = Table(path, **settings).read()
    assert frames(corpus) == found
    assert corpus.fingerprint["read"].startswith(said)
    assert isinstance(corpus.codec, Frames)
    np.testing.assert_array_equal(Table(path, **settings).read(corpus.codec).val.steps, corpus.val.steps)
    assert ("single 1" in corpus.fingerprint["read"]) == (found == [[[1, 0], [0, 1]]])
    assert ("; 2 rows with a missing" in corpus.fingerprint["read"]) == ("missing" in settings)


def test_a_column_of_real_numbers_is_read_as_numbers(tmp_path: Path) -> None:
    numbers = [f"{x:.3f}" for x in GENERATOR.normal(size=60)]
    one = Table(table(tmp_path, "\n".join(["temp", *numbers])))
    corpus = one.read()
    assert isinstance(corpus.codec, Frames)
    assert (corpus.codec.names, corpus.train.steps.shape) == (["temp"], (54, 1))
    np.testing.assert_array_equal(one.read(corpus.codec).val.steps, corpus.val.steps)
    assert one.read(Symbols()).codec.reads == "symbols"
    two = table(tmp_path, "\n".join(["day,temp", *(f"d{i},{x}" for i, x in enumerate(numbers))]))
    with pytest.raises(
        UserError, match=r"columns day, temp; name the one with the symbols, or the numbers, data.values=temp$"
    ):
        Table(two).read()
    with pytest.raises(
        UserError,
        match=r"^data.symbol=temp: \S+ has real numbers there, \d+ different ones in 60 rows; give data.values=temp",
    ):
        Table(two, symbol="temp").read()
    assert Table(two, symbol="temp").read(Symbols()).codec.reads == "symbols"
    few = table(tmp_path, "\n".join(["dose", *["0.5", "1.0", "2.5"] * 20]))
    assert Table(few).read().codec.reads == "symbols"


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("t,v\n1,0.5\n2,\n", {"values": "v"}, r"line 3: v is empty; give data.missing=skip to leave such rows out$"),
        ("t,v\n1,0.5\n2,nan\n", {"values": "v"}, r"line 3: v is nan; give data.missing=skip to leave such rows out$"),
        ("t,v\n1,0.5\n2,inf\n", {"values": "v", "missing": "skip"}, r"line 3: v='inf' is no finite number$"),
        ("t,v\n1,0.5\n2,high\n", {"values": "v"}, r"line 3: v='high' is no finite number$"),
        ("t;v\n1;0,5\n", {"values": "v"}, r"line 2: v='0,5' is no finite number; write decimals with a point$"),
        ("t;v\n1;0 5\n", {"values": "v"}, r"line 2: v='0 5' is no finite number; data.delimiter=' ' separates at blanks$"),
        ("t,v\n1,1_0\n", {"values": "v"}, r"line 2: v='1_0' is no finite number$"),
        ("t,v\n1,5\n2,6\n", {"values": "w"}, r"^data.values=w: \S+ has the columns t, v; name one of them$"),
        (
            "c,t\n1,5\n",
            {"values": "all", "sequence": "c", "order": "t"},
            r"^data.values: \S+ has the columns c, t; no one is left",
        ),
        ("t,v\n1,\n", {"values": "v", "missing": "skip"}, r"holds no numbers; give a table with rows"),
        (
            "t,v\n" + "1,5.5\n" * 9,
            {"values": "v"},
            r"feature 0 \(v\) is 5.5 in every frame of the training split; leave it out$",
        ),
    ],
)
def test_numbers_that_cannot_be_read_are_named(text: str, settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        Table(table(tmp_path, text), **settings).read()


def test_lists_of_numbers_and_settings_that_do_not_suit(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"line 1: 1 values, and the first row has 2; give every row the same number$"):
        Table(table(tmp_path, '{"s": [[1, 2], [3]]}\n', "r.jsonl"), values="s").read()
    with pytest.raises(UserError, match=r"line 1: a holds a list, which cannot be joined with other columns$"):
        Table(table(tmp_path, '{"a": [1, 2], "b": 5}\n', "r.jsonl"), values=["a", "b"]).read()
    path = table(tmp_path, "a,b\n1,2.5\n")
    with pytest.raises(UserError, match=r"^codec=frames: reads numbers; give data.values=b instead of data.symbol$"):
        Table(path, symbol="b").read(Frames())
    with pytest.raises(
        UserError, match=r"^codec=symbols: does not read numbers; give data.symbol instead of data.values, or"
    ):
        Table(path, values="b").read(Symbols())
    for settings, message in (
        ({"symbol": "a"}, "values are read as numbers: give no symbol and no by=characters with them"),
        ({"by": "characters"}, "values are read as numbers"),
        ({"missing": "symbol"}, "missing=symbol: a number cannot be a symbol; allowed with values are refuse and skip"),
    ):
        with pytest.raises(ValueError, match=message):
            Table(path, values="b", **settings)  # type: ignore[arg-type]


def test_published_piano_rolls() -> None:
    corpus = Array(str(shared_data("polymusic/JSB_Chorales.npz"))).read()
    assert {split: (len(line.ends), line.num_targets) for split, line in corpus.splits.items()} == {
        "train": (229, 13807),
        "val": (76, 4602),
        "test": (77, 4725),
    }
    assert corpus.fingerprint["read"].startswith("packed bits; 229 sequences of 25 to 129 frames of 88 features, 3.9 set on")


def test_a_column_of_many_whole_numbers_may_be_meant_as_numbers(tmp_path: Path) -> None:
    (tmp_path / "many.csv").write_text("count\n" + "".join(f"{i * 37 % 200}\n" for i in range(400)), encoding="utf-8")
    (tmp_path / "few.csv").write_text("count\n" + "".join(f"{i % 9}\n" for i in range(400)), encoding="utf-8")
    many, few = (Table(path=str(tmp_path / f"{name}.csv")).read().fingerprint["read"] for name in ("many", "few"))
    assert many.startswith("400 symbols; data.values reads them as numbers")
    assert few.startswith("400 symbols; the first line")
