"""What is distinct, and what stands in the training data, against the same by plain search."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from throughline.data.line import Line
from throughline.evaluation import novelty
from throughline.evaluation.novelty import hashes, of_sequences, of_text, seen

texts = st.text("abc", min_size=1, max_size=40)


def ids(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8)


@given(texts, texts, st.integers(1, 12), st.integers(1, 50))
def test_n_grams_are_found_wherever_they_stand(text: str, train: str, n: int, piece: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(novelty, "PIECE", piece)
        grams = [text[k : k + n] for k in range(len(text) - n + 1)]
        line = Line.of([ids(train)])
        if grams:
            assert seen(ids(text), line, n).tolist() == [gram in train for gram in grams]
            assert len(set(hashes(ids(text), n).tolist())) == len(set(grams))


@given(texts, texts)
def test_the_figures_of_a_text(text: str, train: str) -> None:
    figures = of_text(ids(text), Line.of([ids(train)]))
    runs = [text[k:m] for k in range(len(text)) for m in range(k + 1, len(text) + 1)]
    longest = max((len(run) for run in runs if run in train), default=0)
    assert figures.pop("longest_copy") == longest
    for name, value in figures.items():
        kind, n = name.split("_")
        grams = [text[k : k + int(n)] for k in range(len(text) - int(n) + 1)]
        expected = len(set(grams)) if kind == "distinct" else sum(gram in train for gram in grams)
        assert value == expected / len(grams)
    assert len(figures) == sum(n <= len(text) for n in (1, 2, 3, 4, 4, 8, 16, 32))


def test_equal_hashes_are_no_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(novelty, "hashes", lambda ids, n: np.zeros(len(ids) - n + 1, np.uint64))
    assert seen(ids("ab"), Line.of([ids("ba")]), 2).tolist() == [False]


def test_the_figures_of_sequences() -> None:
    line = Line.with_ends([np.array(s, np.uint8) for s in ([1, 2], [3], [], [1, 2, 3])], end=9)
    figures = of_sequences([[1, 2], [1, 2], [2, 1], [], [3, 3]], line)
    assert figures == {"ended": 1.0, "distinct": 4 / 5, "new": 2 / 4}
    assert of_sequences([[1, 2], None, [5], None], line) == {"ended": 0.5, "distinct": 1.0, "new": 0.5}
    assert of_sequences([None], line) == {"ended": 0.0}
