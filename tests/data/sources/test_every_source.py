"""Tests for every source, present and future. The sources are found by their files."""

from pathlib import Path

import numpy as np
import pytest

from throughline.data.codecs import Codec
from throughline.data.codecs.bytes import Bytes
from throughline.data.codecs.characters import Characters
from throughline.data.codecs.ids import Ids
from throughline.data.codecs.symbols import Symbols
from throughline.data.sources import Source
from throughline.data.sources.array import Array
from throughline.data.sources.lines import Lines
from throughline.data.sources.markov import Markov
from throughline.data.sources.reber import Reber
from throughline.data.sources.stdlib import StandardLibrary
from throughline.data.sources.table import Table
from throughline.data.sources.text import Text
from throughline.data.sources.tokens import Tokens
from throughline.plumbing.errors import UserError
from throughline.settings import targets

CODECS: list[Codec] = [Characters(), Symbols(), Bytes(), Ids()]


SOURCES: list[type[Source]] = [Text, Lines, Table, Array, StandardLibrary, Reber, Markov, Tokens]


def sources(folder: Path) -> dict[type[Source], Source]:
    (folder / "text.txt").write_text("the quick brown fox. " * 20, encoding="utf-8")
    (folder / "log.csv").write_text("event\n" + "".join(f"e{i * i % 7}\n" for i in range(100)))
    (folder / "names.txt").write_text("".join(f"name{i * i % 7}\n" for i in range(100)))
    np.save(folder / "rows.npy", np.eye(7)[[i * i % 7 for i in range(100)]])
    np.array([i * i % 7 for i in range(100)], "<u2").tofile(folder / "ids.bin")
    return {
        Text: Text(str(folder / "text.txt")),
        Table: Table(str(folder / "log.csv")),
        Lines: Lines(str(folder / "names.txt")),
        Array: Array(str(folder / "rows.npy")),
        Tokens: Tokens(str(folder / "ids.bin")),
        Reber: Reber(num_symbols=1000),
        Markov: Markov(num_symbols=1000),
        StandardLibrary: StandardLibrary(max_bytes=200_000),
    }


def test_every_source_is_tested_here(tmp_path: Path) -> None:
    assert set(targets(Source).values()) == set(sources(tmp_path))  # type: ignore[type-abstract]


@pytest.mark.parametrize("cls", SOURCES)
def test_it_reads_two_splits_and_says_where_they_come_from(cls: type[Source], tmp_path: Path) -> None:
    source = sources(tmp_path)[cls]
    corpus, again = source.read(), source.read()
    assert set(corpus.splits) - {"test"} == {"train", "val"}
    assert corpus.fingerprint == again.fingerprint
    assert {"source", "bytes", "sha256", "vocab", "vocab_sha256", "tokens_sha256"} <= set(corpus.fingerprint)
    for split in corpus.splits.values():
        assert split.num_targets > 0
        assert split.steps.dtype == corpus.codec.dtype
    assert np.asarray(corpus.train.steps).min() > 0  # the codec was fitted to this split
    assert type(corpus.codec) is type(next(iter(source.codecs.values())))


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
@pytest.mark.parametrize("cls", SOURCES)
def test_it_is_read_by_every_codec_that_it_has_sequences_for_and_no_other(
    cls: type[Source], codec: Codec, tmp_path: Path
) -> None:
    source = sources(tmp_path)[cls]
    if cls is Tokens and codec.reads == "text":
        codec = codec.fit(["abcdefg"])  # what the ids mean, because there is no text to find it in
    if codec.reads in source.codecs:
        corpus = source.read(codec)
        assert type(corpus.codec) is type(codec)
        np.testing.assert_array_equal(source.read(corpus.codec).val.steps, corpus.val.steps)  # as for a checkpoint
    else:
        with pytest.raises(UserError, match=rf"^codec={codec.name}: {source.name} has no {codec.reads}; allowed are auto, "):
            source.read(codec)


def test_bytes_of_a_file_that_is_no_text(tmp_path: Path) -> None:
    content = bytes(range(1, 256)) * 10
    (tmp_path / "any.bin").write_bytes(content)
    corpus = Text(str(tmp_path / "any.bin")).read(Bytes())
    joined = np.concatenate([corpus.train.steps, corpus.val.steps])
    assert (joined - 1).astype(np.uint8).tobytes() == content
    with pytest.raises(UserError, match="is not UTF-8"):
        Text(str(tmp_path / "any.bin")).read()
