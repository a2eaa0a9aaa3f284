"""Words written out: the table, the unknown word, line ends, prompts."""

import time
from pathlib import Path

import numpy as np
import pytest

from helpers import config, shared_data
from throughline.data.codecs import UNKNOWN, words
from throughline.data.codecs.words import EOS, UNK, Words
from throughline.data.corpus import Corpus, num_unknown
from throughline.data.sources.lines import Lines
from throughline.data.sources.text import Text
from throughline.plumbing.errors import UserError

TEXT = " the cat saw \n\n the dog saw the cat\r\n a bird"


def test_words_are_ordered_by_how_often_they_occur_and_a_line_break_is_one() -> None:
    codec = Words().fit([TEXT])
    assert codec.symbols == ["<eos>", "the", "cat", "saw", "a", "bird", "dog"]
    assert codec.encode(TEXT).tolist() == [2, 3, 4, 1, 1, 2, 7, 4, 2, 3, 1, 5, 6]
    assert codec.decode(codec.encode(TEXT).tolist()) == "the cat saw\n\nthe dog saw the cat\na bird"
    assert codec.opening == "\n"
    assert Words().fit(["a b b"]).opening == "b"


def test_rare_words_become_the_unknown_word_which_is_trained() -> None:
    codec = Words(min_count=2).fit([TEXT])
    assert codec.symbols == ["<eos>", "<unk>", "the", "cat", "saw"]  # three each, and two each
    assert codec.unknown == 2
    assert codec.encode("a cat saw a mouse\n").tolist() == [2, 4, 5, 2, 2, 1]
    assert codec.decode([2, 4, UNKNOWN]) == "<unk> cat <unk>"


def test_an_unknown_word_in_the_text_is_the_same_as_a_rare_one() -> None:
    codec = Words(min_count=2).fit(["<unk> the the <unk> cat\n"])
    assert codec.symbols == ["<unk>", "the", "<eos>"]
    assert codec.encode("<unk> cat the").tolist() == [1, 1, 2]


@pytest.mark.parametrize(
    ("most", "symbols"),
    [
        (8, ["<eos>", "the", "cat", "saw", "a", "bird", "dog"]),
        (7, ["<eos>", "the", "cat", "saw", "a", "bird", "dog"]),
        (6, ["<eos>", "the", "<unk>", "cat", "saw", "a"]),
        (3, ["<unk>", "<eos>", "the"]),
    ],
)
def test_the_most_frequent_words_stay(most: int, symbols: list[str]) -> None:
    assert Words(max_vocab=most).fit([TEXT]).symbols == symbols


def test_without_rare_words_no_unknown_word_is_trained() -> None:
    codec = Words().fit(["a b\n"])
    assert UNK not in (codec.symbols or [])
    assert codec.unknown == UNKNOWN
    assert codec.encode("a x").tolist() == [2, UNKNOWN]
    assert codec.decode([2, UNKNOWN]) == "a <unk>"


def test_a_stream_writes_no_space_at_the_beginning_of_a_line() -> None:
    codec = Words(symbols=[EOS, "a", "b"])
    assert list(codec.stream([2, 3, 1, 1, 2, 3])) == ["a", " b", "\n", "\n", "a", " b"]


def test_an_unknown_word_of_a_prompt_is_read_as_the_unknown_word_and_said() -> None:
    codec = Words(min_count=2).fit(["a a b b c\n"])
    assert codec.symbols == ["a", "b", "<eos>", "<unk>"]
    assert codec.prompt("a x b <unk>\n").tolist() == [1, 4, 2, 4, 3]
    assert list(codec.cautions("a x b y x <unk>")) == ["prompt: 'x', 'y' not in the vocabulary, read as <unk>"]
    assert list(codec.cautions("a b\n")) == []
    (said,) = Words().fit(["a b"]).cautions("x")
    assert said == (
        "prompt: 'x' not in the vocabulary, read as <unk>, of which the network has learned nothing; "
        "a larger codec.min_count trains it"
    )


def test_a_part_is_cut_after_its_last_white_space() -> None:
    assert [Words().cut(part) for part in ("", "the", "the ", "the c", "the\nc", " a\r")] == [0, 0, 4, 4, 4, 3]


def test_a_text_without_white_space_is_looked_through_at_once() -> None:
    begun = time.perf_counter()
    assert Words().cut("a" * 2**25) == 0
    assert time.perf_counter() - begun < 1  # sign by sign it takes 3 s, again for each MB that is read


def test_a_long_text_is_split_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "one two\nthree  four five\n" * 9
    codec = Words().fit([text])
    whole = codec.encode(text)
    for size in range(1, 30):
        monkeypatch.setattr(words, "PIECE", size)
        assert Words().fit([text]) == codec
        np.testing.assert_array_equal(codec.encode(text), whole)
    assert len(whole) == 9 * 7


def test_a_table_that_no_file_could_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "LARGEST_TABLE", 8)
    assert Words().fit(["abc def"]).size == 3
    with pytest.raises(UserError, match=r"^codec=words: the table would hold 2 words of 7 characters, more than 8 together"):
        Words().fit(["abcd def"])


def test_a_text_of_white_space_has_no_words() -> None:
    with pytest.raises(UserError, match=r"^codec=words: the train split holds white space only"):
        Words().fit(["  \t"])


def test_a_table_of_the_unknown_word_alone_is_refused() -> None:
    with pytest.raises(UserError, match=r"^codec.min_count=4: no word occurs so often in the train split; 3 is the most$"):
        Words(min_count=4).fit(["a b a\n\n\n\n\na <unk>"])


def test_unknown_targets_are_rare_words_and_those_never_seen() -> None:
    corpus = Corpus.of(Words(min_count=2), ["a a b b c c d\n"], ["a d e <unk> f a"])
    assert corpus.unknown == num_unknown(corpus.val, corpus.codec) == 4


def test_a_text_is_cut_between_words(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("abcdefg abcdefg abcdefg abcdefg\n")
    corpus = Text(path=str(tmp_path / "a.txt"), val_fraction=0.3).read(Words())
    assert (corpus.codec.decode(corpus.train.steps.tolist()), corpus.val.steps.tolist()) == ("abcdefg abcdefg", [1, 1, 0])


def test_a_sentence_per_line_is_a_sequence_of_words(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a b\n\na  b c\nb\n")
    (tmp_path / "b.txt").write_text("b x\n")
    settings = {"path": str(tmp_path / "a.txt"), "val_path": str(tmp_path / "b.txt")}
    corpus = Lines(**settings).read(Words())
    assert corpus.codec.to_plain()["symbols"] == ["b", "a", "c"]
    assert corpus.train.steps.tolist() == [4, 2, 1, 4, 2, 1, 3, 4, 1, 4]
    assert corpus.fingerprint["read"] == "3 sequences of 1 to 3 words; blank lines left out: 1"
    assert corpus.codec.decode(corpus.train.steps[1:].tolist()) == "a b\na b c\nb\n"
    assert Lines(**settings, by="tokens").read(Words()).train.steps.tolist() == corpus.train.steps.tolist()


def test_wikitext_2_has_the_counts_that_are_published() -> None:
    path = str(shared_data("wikitext2/train.txt"))
    others = {key: str(shared_data(f"wikitext2/{file}.txt")) for key, file in (("val_path", "valid"), ("test_path", "test"))}
    corpus = Text(path=path, **others).read(Words())
    assert len(corpus.codec.to_plain()["symbols"]) == 33_278
    assert [len(line.steps) for line in corpus.splits.values()] == [2_088_628, 217_646, 245_569]
    assert 0 < corpus.unknown < 0.06 * 217_646


def test_a_prepared_benchmark_has_no_word_that_is_never_seen() -> None:
    path = shared_data("cases/words-ptb-style.train.txt")
    others = {f"{key}_path": str(path).replace(".train.", f".{name}.") for key, name in (("val", "valid"), ("test", "test"))}
    corpus = Text(path=str(path), **others).read(Words())
    text = path.read_text(encoding="utf-8")
    assert len(corpus.train.steps) == len(text.split()) + text.count("\n")
    assert not any((line.steps == UNKNOWN).any() for line in corpus.splits.values())


def test_words_are_chosen_by_name() -> None:
    settings = config("data=text", "data.path=x", "codec=words", "codec.min_count=3")
    assert settings.codec == Words(min_count=3)
