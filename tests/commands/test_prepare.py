"""What `prepare.py` shows of data, in full."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from helpers import PROJECT
from throughline.commands.prepare import about, counts, examples, lengths, spans, symbols
from throughline.data.codecs.bytes import Bytes
from throughline.data.codecs.characters import Characters
from throughline.data.codecs.symbols import Symbols
from throughline.data.corpus import Corpus
from throughline.data.line import Line

ORIGIN = {"source": "names\x1b.txt", "bytes": 1234, "sha256": "0123456789abcdef", "read": "5 sequences of 2 to 4 characters"}
NAMES = Corpus.of(Characters(), ["anna", "bob", "eve", "bo"], ["ada"], ORIGIN, test=["o", "eva"], ended=True, joined=False)


def lines(corpus: Corpus, most: int = 10) -> list[str]:
    return [*about(corpus), *lengths(corpus.train), *symbols(corpus), *examples(corpus, most)]


def test_sequences_in_full() -> None:
    assert lines(NAMES) == [
        r"data: names\x1b.txt, 1,234 bytes, sha256 0123456789ab; 5 sequences of 2 to 4 characters",
        "sequences: each starts from zeros; the end symbol, here ⏎, stands before the first and after each",
        "split    sequences       symbols       unknown",
        "  train           4            12             0",
        "  val             1             3             1 (33.33%)",
        "  test            2             4             0",
        "lengths of the training sequences: 2 to 4 symbols, the median is 3",
        "  2 ███████████████                1",
        "  3 ██████████████████████████████ 2",
        "  4 ███████████████                1",
        "symbols: 6 occur in the training split; characters, vocabulary 8 with the unknown one and the end",
        "  most: 'b' 25.0%, 'a' 16.7%, 'e' 16.7%, 'n' 16.7%, 'o' 16.7%, 'v' 8.3%",
        "  least: once: 'v'",
        "some training sequences:",
        "  ⏎anna⏎",
        "  ⏎bob⏎",
        "  ⏎eve⏎",
        "  ⏎bo⏎",
    ]


def test_one_text_in_full() -> None:
    corpus = Corpus.of(Characters(), ["to be,\n\nor not.\n" + "x" * 300], ["be?!?!?!"], {"source": "memory"})
    assert lines(corpus, 4) == [
        "data: memory",
        "sequences: joined, without ends",
        "split    sequences       symbols       unknown",
        "  train           1           316             0",
        "  val             1             8             6 (75.00%)",
        "caution: validation: 6 of 7 targets are symbols that do not occur in the training data",
        "symbols: 11 occur in the training split; characters, vocabulary 12 with the unknown one",
        "  most: 'x' 94.9%, '\\n' 0.9%, 'o' 0.9%, ' ' 0.6%, 't' 0.6%, ',' 0.3%, '.' 0.3%, 'b' 0.3%, 'e' 0.3%, 'n' 0.3%",
        "  least: once: ',', '.', 'b', 'e', 'n', 'r' (6 symbols)",
        "the training split begins:",
        "  to be,",
        "",
        "  or not.",
        "  " + "x" * 97 + "...",
    ]


def test_joined_symbols_in_full() -> None:
    corpus = Corpus.of(Symbols(), [["go in", "sit"], ["sit"]], [["sit"]], {"source": "log.csv"}, ended=True, joined=True)
    assert lines(corpus, 1) == [
        "data: log.csv",
        "sequences: joined: the state is carried from one to the next; the end symbol, here ⏎, "
        "stands before the first and after each",
        "split    sequences       symbols       unknown",
        "  train           2             3             0",
        "  val             1             1             0",
        "lengths of the training sequences: 1 to 2 symbols, the median is 1.5",
        "  1 ██████████████████████████████ 1",
        "  2 ██████████████████████████████ 1",
        "symbols: 2 occur in the training split; symbols, vocabulary 4 with the unknown one and the end",
        "  most: 'sit' 66.7%, 'go in' 33.3%",
        "  least: once: 'go in'",
        "some training sequences:",
        "  ⏎go in, sit⏎",
    ]


def test_bytes_are_shown_as_bytes() -> None:
    corpus = Corpus.of(Bytes(), ["éé!".encode()], [b"!!"], {"source": "memory"})
    assert list(symbols(corpus)) == [
        "symbols: 3 occur in the training split; bytes, vocabulary 257 with the unknown one",
        r"  most: b'\xa9' 40.0%, b'\xc3' 40.0%, b'!' 20.0%",
        "  least: once: b'!'",
    ]


def test_lengths_that_are_spread_out_are_shown_in_ranges() -> None:
    sizes = [0, 1, 3, *[5] * 90, 40, 100]
    line = Line.with_ends([np.ones(size, np.uint8) for size in sizes], end=2)
    assert list(lengths(line)) == [
        "lengths of the training sequences: 0 to 100 symbols, the median is 5",
        "       0 ▏                              1",
        "       1 ▏                              1",
        "     2-3 ▏                              1",
        "     4-7 ██████████████████████████████ 90",
        "    8-15                                0",
        "   16-31                                0",
        "   32-63 ▏                              1",
        "  64-100 ▏                              1",
    ]


@pytest.mark.parametrize("high", [1, 2, 19, 20, 21, 63, 64, 65, 1000])
@pytest.mark.parametrize("low", [0, 1, 7])
def test_every_sequence_is_in_one_bar(low: int, high: int) -> None:
    sizes = np.random.default_rng(high).integers(low, low + high + 1, 50)
    rows = list(lengths(Line.with_ends([np.ones(size, np.uint8) for size in [*sizes, low, low + high]], end=2)))[1:]
    assert sum(int(row.split()[-1]) for row in rows) == 52
    assert all(row.endswith(tuple("0123456789")) for row in rows)


@pytest.mark.parametrize(("ended", "joined"), [(True, False), (True, True), (False, True)])
def test_the_spans_of_sequences(ended: bool, joined: bool) -> None:
    raw = ["ab", "c", "abc"]
    corpus = Corpus.of(Characters(), raw, ["ab"], ended=ended, joined=joined)
    begins, ends = spans(corpus.train)
    assert [corpus.codec.decode(corpus.train.steps[a:b].tolist()) for a, b in zip(begins, ends, strict=True)] == raw
    assert counts(corpus.train, corpus.codec)[1:4].tolist() == [2, 2, 2]
    assert counts(corpus.train, corpus.codec).sum() == 6


def test_examples_are_evenly_spaced_and_cut() -> None:
    corpus = Corpus.of(Characters(), [*"abcdefghi", "x" * 200], ["ab"], ended=True, joined=False)
    assert list(examples(corpus, 3)) == ["some training sequences:", "  ⏎a⏎", "  ⏎e⏎", "  ⏎" + "x" * 96 + "..."]
    assert list(examples(corpus, 0)) == []


def test_the_command_shows_the_same_and_what_to_do_next_without_torch(tmp_path: Path) -> None:
    (tmp_path / "my fox.txt").write_text("the quick brown fox. " * 20)
    code = (
        "import sys; from throughline.commands.start import prepare; "
        "prepare(); print('torch' in sys.modules, 'throughline.commands.prepare' in sys.modules)"
    )
    arguments = ["data=text", "data.path=my fox.txt", "examples=1", "codec=bytes"]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT / "src")}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True, env=environment, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    said = done.stdout.splitlines()
    assert said[0].startswith("data: my fox.txt, 420 bytes, sha256 ")
    assert said[1:] == [
        "sequences: joined, without ends",
        "split    sequences       symbols       unknown",
        "  train           1           378             0",
        "  val             1            42             0",
        "symbols: 17 occur in the training split; bytes, vocabulary 257 with the unknown one",
        "  most: b' ' 19.0%, b'o' 9.5%, b'.' 4.8%, b'b' 4.8%, b'c' 4.8%, b'e' 4.8%, b'f' 4.8%, b'h' 4.8%, b'i' 4.8%, "
        "b'k' 4.8%",
        "  least: 18 times: b'.', b'b', b'c', b'e', b'f', b'h', b'i', b'k', b'n', b'q', ... (15 symbols)",
        "the training split begins:",
        "  the quick brown fox. the quick brown fox. the quick brown fox. the quick brown fox. the quick brown",
        "train:      throughline-train data=text 'data.path=my fox.txt' codec=bytes",
        "False True",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["my fox.txt"]
