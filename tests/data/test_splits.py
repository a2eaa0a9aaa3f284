"""Splits by name, for every source."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from pydantic import ValidationError

from throughline.data.corpus import Corpus
from throughline.data.line import Line
from throughline.data.sources.stdlib import StandardLibrary
from throughline.data.sources.table import Table
from throughline.data.sources.text import Text
from throughline.data.splits import Splits
from throughline.plumbing.errors import UserError

fractions = st.floats(0.01, 0.45)


def unread(path: str, key: str) -> Any:
    raise AssertionError("no other file is named")


@given(st.integers(0, 300), fractions, st.one_of(st.just(0.0), fractions))
def test_every_part_is_in_one_split_in_order(n: int, val: float, test: float) -> None:
    parts = Splits(val_fraction=val, test_fraction=test).divided(list(range(n)), unread)
    assert [*parts["train"], *parts["val"], *parts.get("test", [])] == list(range(n))
    assert ("test" in parts) == (test > 0)
    assert abs(len(parts["val"]) - n * val) <= 1
    assert abs(len(parts.get("test", [])) - n * test) <= 1


@given(st.integers(0, 300), fractions, st.one_of(st.just(0.0), fractions))
def test_files_are_dealt_at_equal_distances(n: int, val: float, test: float) -> None:
    parts = Splits(val_fraction=val, test_fraction=test).dealt(list(range(n)), unread)
    assert sorted([*parts["train"], *parts["val"], *parts.get("test", [])]) == list(range(n))
    assert ("test" in parts) == (test > 0)
    for first in range(0, n - 50, 50):  # every stretch has the same number
        assert abs(len([p for p in parts["val"] if first <= p < first + 50]) - 50 * val) <= 1


def test_by_default_every_tenth_file_is_validated_on() -> None:
    assert Splits().dealt(list(range(30)), unread) == {"train": [i for i in range(30) if i % 10 != 9], "val": [9, 19, 29]}


def test_splits_that_leave_nothing_to_train_on_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"val_fraction=0.5 and test_fraction=0.5 leave nothing to train on"):
        Splits(val_fraction=0.5, test_fraction=0.5)
    assert Splits(val_fraction=0.5, test_fraction=0.5, test_path="x")


def steps(corpus: Corpus, split: str) -> str:
    return corpus.codec.decode(corpus.line(split).steps.tolist())


def test_the_splits_of_a_text(tmp_path: Path) -> None:
    for name, text in (("a", "abcdefghij" * 2), ("v", "jihg"), ("t", "cab")):
        (tmp_path / name).write_text(text)
    source = Text(str(tmp_path / "a"), test_fraction=0.2)
    corpus = source.read()
    assert {split: steps(corpus, split) for split in corpus.splits} == {
        "train": "abcdefghijabcd",
        "val": "ef",
        "test": "ghij",
    }
    assert steps(corpus, "all") == "abcdefghij" * 2
    files = replace(source, test_fraction=0.0, val_path=str(tmp_path / "v"), test_path=str(tmp_path / "t")).read()
    assert [steps(files, split) for split in ("train", "val", "test")] == ["abcdefghij" * 2, "jihg", "cab"]
    assert list(Text(str(tmp_path / "a")).read().splits) == ["train", "val"]
    hashes = {c.fingerprint["tokens_sha256"] for c in (corpus, files, Text(str(tmp_path / "a")).read())}
    assert len(hashes) == 3


def test_the_splits_of_events_and_of_the_standard_library(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("event\n" + "a\nb\nc\nd\ne\n" * 4)
    (tmp_path / "more.csv").write_text("event\nc\na\nb\n")
    events = Table(str(tmp_path / "log.csv"), test_fraction=0.1, val_path=str(tmp_path / "more.csv")).read()
    assert [len(events.line(split).steps) for split in ("train", "val", "test")] == [18, 3, 2]
    with pytest.raises(UserError, match=r"^data.test_path=.*nothing.csv: No such file or directory"):
        Table(str(tmp_path / "log.csv"), test_path=str(tmp_path / "nothing.csv")).read()
    (tmp_path / "t.txt").write_text("import os\n")
    library = StandardLibrary(max_bytes=300_000, test_path=str(tmp_path / "t.txt")).read()
    assert steps(library, "test") == "import os\n"
    shares = StandardLibrary(max_bytes=3_000_000, test_fraction=0.2).read()
    whole = sum(len(line.steps) for line in shares.splits.values())
    assert whole == len(shares.line("all").steps)
    assert 0.1 < len(shares.line("test").steps) / whole < 0.3


def test_a_split_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("ab" * 20)
    corpus = Text(str(tmp_path / "a")).read()
    with pytest.raises(UserError, match=r"^split=test: the data have train, val, or give all; data.test_fraction or"):
        corpus.line("test")


def test_lines_end_to_end_are_one_line_of_all_their_sequences() -> None:
    sequences = [np.arange(n, dtype=np.uint8) for n in (3, 2, 4, 2, 5)]
    joined = Line.end_to_end([Line.of(sequences[:2]), Line.of(sequences[2:3]), Line.of(sequences[3:])])
    whole = Line.of(sequences)
    np.testing.assert_array_equal(joined.steps, whole.steps)
    np.testing.assert_array_equal(joined.ends, whole.ends)
