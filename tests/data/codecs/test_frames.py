"""The codec of frames: what it holds, what it standardises, and what it refuses."""

import json
import math
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as arrays

from throughline.data.codecs import Codec
from throughline.data.codecs.frames import Frames
from throughline.data.corpus import Corpus, num_unknown
from throughline.plumbing.errors import UserError
from throughline.settings import checked, from_plain

ROLL = np.array([[1, 0, 1], [0, 0, 0], [0, 1, 1]])
SERIES = np.array([[1.0, 10.0], [3.0, 30.0], [5.0, 20.0]])

values = st.floats(-1e6, 1e6, width=32)
frames = arrays.arrays(np.float32, st.tuples(st.integers(2, 12), st.just(2)), elements=values).filter(
    lambda a: bool((np.ptp(a.astype(np.float64), axis=0) > 1e-3 * (1 + abs(a).max(axis=0))).all())
)


def test_a_roll_written_out() -> None:
    codec = Frames().fit([ROLL])
    assert (codec.steps, codec.size, codec.end, codec.log_volume) == ("multi_hot", 3, None, 0.0)
    steps = codec.encode(ROLL.astype(bool))
    assert steps.dtype == codec.dtype == np.uint8
    assert steps.tolist() == ROLL.tolist()
    assert codec.decode(steps) == "0 2\n-\n1 2"
    assert list(codec.stream(steps[1:])) == ["-\n", "1 2\n"]
    assert codec.prompt("").tolist() == [[0, 0, 0]]
    assert codec.prompt(ROLL[:1]).tolist() == [[1, 0, 1]]
    assert codec.with_end().prompt(ROLL[:1]).tolist() == [[0, 0, 0], [1, 0, 1]]


def test_a_series_is_standardised_by_the_training_split_alone() -> None:
    codec = Frames(names=["t", "p"]).fit([SERIES[:2], SERIES[2:]])
    assert codec.steps == "real"
    np.testing.assert_allclose(codec.mean, [3, 20], rtol=1e-15)  # type: ignore[arg-type]
    np.testing.assert_allclose(codec.std, SERIES.std(axis=0), rtol=1e-15)  # type: ignore[arg-type]
    assert codec.log_volume == pytest.approx(math.log(SERIES.std(axis=0).prod()), rel=1e-15)
    other = codec.encode(np.array([[3, 20], [7, 20]]))
    np.testing.assert_allclose(other, [[0, 0], [4 / math.sqrt(8 / 3), 0]], rtol=1e-6)
    np.testing.assert_allclose(codec.raw(other), [[3, 20], [7, 20]], rtol=1e-6)
    assert codec.decode(codec.encode(SERIES[:2])) == "1 10\n3 30"


@given(frames, st.data())
def test_parts_give_the_mean_and_the_std_of_the_whole(whole: np.ndarray, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=3)))
    codec = Frames(kind="real").fit(iter(np.split(whole, cuts)))
    exact = whole.astype(np.float64)
    np.testing.assert_allclose(codec.mean, exact.mean(axis=0), rtol=1e-9, atol=1e-9 * abs(exact).max())
    np.testing.assert_allclose(codec.std, exact.std(axis=0), rtol=1e-6)
    np.testing.assert_allclose(codec.raw(codec.encode(whole)), whole, rtol=1e-5, atol=1e-5 * abs(exact).max())
    assert abs(codec.encode(whole).std(axis=0) - 1).max() < 1e-4


@pytest.mark.parametrize("codec", [Frames().fit([ROLL]), Frames(names=["t", "p"], ended=True).fit([SERIES])])
def test_it_survives_as_plain_values(codec: Frames) -> None:
    plain = json.loads(json.dumps(codec.to_plain()))
    assert from_plain(Codec, plain) == codec  # type: ignore[type-abstract]
    assert codec.fit([ROLL]) is codec


@pytest.mark.parametrize(
    ("array", "line"),
    [
        (np.array([[1.0, 2], [3, np.nan]]), r"^data: row 1, feature 1 is nan; allowed are finite numbers$"),
        (np.array([[1.0, 2], [1, 3]]), r"^data: feature 0 is 1 in every frame of the training split; leave it out$"),
        (np.array([1e9, 1e9 + 1]), r"^data: feature 0 is about 1e\+09 and varies by 0.5, which float32 does not hold; "),
        (np.array([0, 1e-35]), r"^data: feature 0 varies by 1e-35, which float32 does not hold; multiply it by a constant"),
        (np.array([0, 1e-320]), r"^data: feature 0 varies by 1e-320, which float32 does not hold; multiply it by a"),
        ([[1.0, 2], [3]], r"^data: a sequence whose frames have unlike numbers of features; give every frame the same$"),
        (np.array([0, 1e300]), r"^data: row 1, feature 0 is 1e\+300; allowed are numbers up to 1e\+30$"),
    ],
)
def test_what_cannot_be_standardised_is_refused(array: Any, line: str) -> None:
    with pytest.raises(UserError, match=line):
        Frames().fit([array])


def test_a_key_that_never_sounds_is_a_feature() -> None:
    assert Frames().fit([ROLL * [1, 0, 1]]).size == 3


@pytest.mark.parametrize(
    ("codec", "array", "line"),
    [
        (Frames().fit([ROLL]), ROLL[:, :2], "frames of 2 features, and codec=frames has 3"),
        (Frames().fit([ROLL]), 2 * ROLL, "row 0, feature 0 is 2; allowed are 0 and 1"),
        (
            Frames().fit([np.array([0, 1e-25])]),
            [1e10],
            r"row 0, feature 0 is 1e\+10; allowed are numbers up to 1e\+30 times",
        ),
        (Frames(names=["t", "p"]).fit([SERIES]), [[1, np.inf]], r"row 0, feature 1 \(p\) is inf; allowed are numbers"),
    ],
)
def test_frames_of_another_kind_are_refused(codec: Frames, array: Any, line: str) -> None:
    with pytest.raises(UserError, match=line):
        codec.encode(array)
    with pytest.raises(UserError, match=r"^codec.names: 1 values for 2 features; give one for each$"):
        Frames(names=["t"]).fit([SERIES])
    with pytest.raises(UserError, match="must have a value for each of the 2 features"):
        checked(Frames, {"kind": "real", "features": 2, "mean": [1.0], "std": [1.0]})


def test_what_is_given_is_kept_or_refused() -> None:
    codec = Frames(mean=[1.0, 2.0]).fit([SERIES])
    assert (codec.mean, codec.std) == ([1.0, 2.0], Frames().fit([SERIES]).std)
    assert Frames(features=2).fit([SERIES]) == Frames().fit([SERIES])
    with pytest.raises(UserError, match=r"^codec.features=5: the data have frames of 2 features; leave it out$"):
        Frames(features=5).fit([SERIES])
    with pytest.raises(UserError, match=r"^codec.std: 1 values for 2 features; give one for each$"):
        Frames(std=[1.0]).fit([SERIES])


def test_a_corpus_names_its_data_in_the_messages_of_the_codec() -> None:
    with pytest.raises(UserError, match=r"^x.npy: feature 0 is 5 in every frame of the training split; leave it out$"):
        Corpus.of(Frames(), [np.full(9, 5.0)], [np.ones(9)], {"source": "x.npy"})
    with pytest.raises(UserError, match=r"^memory: val split: row 1, feature 2 is 7; allowed are 0 and 1$"):
        Corpus.of(Frames(), [ROLL], [np.array([[0, 0, 0], [0, 0, 7]])])
    with pytest.raises(UserError, match=r"^memory: train is an array, not a list of sequences; give \[array\]$"):
        Corpus.of(Frames(), ROLL, ROLL)
    assert len(Corpus.of(Frames(), np.stack([ROLL] * 4), [ROLL], ended=True, joined=False).train.ends) == 4


def test_a_corpus_of_sequences_of_frames() -> None:
    sequences = [ROLL, ROLL[:0], ROLL[:1]]
    names = {"train": ["a", "b", "c"], "val": ["d"]}
    corpus = Corpus.of(Frames(), sequences, [ROLL[1:]], {"source": "x"}, ended=True, joined=False, names=names)
    line = corpus.train
    assert line.steps.tolist() == [[0, 0, 0], *ROLL.tolist(), *ROLL[:1].tolist()]
    assert (line.ends.tolist(), line.num_targets, line.joined, line.names) == ([3, 4], 4, False, ["a", "c"])
    assert num_unknown(line, Frames()) == 0
    assert corpus.line("all").steps.tolist() == [*line.steps.tolist(), *ROLL[1:].tolist()]
    assert corpus.line("all").ends.tolist() == [3, 4, 6]
    positions = np.arange(4)[None]
    read = line.as_inputs(line.at(positions), positions)[0].tolist()
    assert read == [
        [0, 0, 0],
        *ROLL[:2].tolist(),
        [0, 0, 0],
    ]  # the second sequence begins with zeros, not with the last frame
    cut = Corpus.of(Frames(), [ROLL[:1], ROLL[1:], ROLL[:1]], [ROLL[1:]], {"source": "x"}, ended=True, joined=False)
    assert cut.train.steps.tolist() == line.steps.tolist()
    assert cut.fingerprint["tokens_sha256"] != corpus.fingerprint["tokens_sha256"]


def test_one_array_of_frames_is_one_joined_sequence() -> None:
    corpus = Corpus.of(Frames(), [ROLL], [ROLL[:2]])
    assert corpus.train.steps.tolist() == ROLL.tolist()
    assert (corpus.train.num_targets, corpus.train.joined, corpus.codec.prompt(ROLL).tolist()) == (2, True, ROLL.tolist())
