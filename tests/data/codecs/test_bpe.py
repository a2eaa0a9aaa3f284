"""Subwords written out, and the tokenizers of other models."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from throughline.data.codecs import bpe
from throughline.data.codecs.bpe import Bpe
from throughline.plumbing.errors import UserError
from throughline.settings import checked

TEXT = "ab ab abc\nabc  abc. don't é 12\tx\n\n y\r\n"
TRAINED = Bpe(vocab_size=300).fit([TEXT * 3])
text = st.text(st.sampled_from("ab' 1é.\n\t\r\u3000\x1c\U0001f600"), max_size=60)


def test_two_merges_written_out() -> None:
    codec = Bpe(vocab_size=258).fit(["abab abab\n"])
    assert codec.size == 259
    ab, abab = 257, 258  # after id 0 and 256 bytes, which are ordered as GPT-2 orders them
    a, space, line = 65, 221, 199
    assert codec.encode("abab ab\na").tolist() == [abab, space, ab, line, a]
    assert codec.decode([abab, space, ab, line, a, 0]) == "abab ab\na\ufffd"
    assert list(codec.stream([ab, *codec.encode("é").tolist()])) == ["ab", "", "é", ""]
    assert (codec.vocab_size, codec.path, codec.fitted) == (None, None, True)


def test_the_same_text_always_gives_the_same_tokenizer() -> None:
    code = f"from throughline.data.codecs.bpe import Bpe; print(Bpe(vocab_size=300).fit([{TEXT * 3!r}]).tokenizer, end='')"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert other == TRAINED.tokenizer


@given(text)
def test_any_text_is_encoded_as_by_the_tokenizer_itself_and_survives(text: str) -> None:
    codec, tokenizer = TRAINED, Tokenizer.from_str(TRAINED.tokenizer)
    assert (codec.encode(text) - 1).tolist() == tokenizer.encode(text).ids
    assert codec.decode(codec.encode(text).tolist()) == text


def test_a_long_text_is_encoded_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bpe, "BLOCK", 64)
    codec = Bpe(vocab_size=256).fit([""])
    assert list(map(len, codec._blocks("ab " * 64))) == [62, 63, 63, 4]
    assert list(codec._blocks("b" * 1000)) == ["b" * 1000]  # without a place, a block has no end
    text = "ab " * 64 + "b" * 200 + " "
    assert codec.decode(codec.encode(text).tolist()) == text


def test_words_and_bytes_of_a_text() -> None:
    text = "The cat  sat.\n\n café\n"
    for size in (256, 400):
        codec = Bpe(vocab_size=size).fit([text * 9])
        ids = codec.encode("\n" + text)  # the first step is no target
        assert codec.extent(ids) == (4 + 3, len(text.encode()))
    ended = codec.with_end()
    assert ended.extent(ended.after_end(ended.encode("cat"))) == (1, 3)
    assert ended.end is not None
    assert ended.extent(ended.prompt("a")) == (1, 1)
    assert codec.extent(codec.encode("a")) == (0, 0)


def gpt2(path: Path, change: Any = lambda tokenizer: None, **of_trainer: Any) -> Bpe:
    """A codec with a tokenizer of somebody else's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False, **of_trainer)
    tokenizer.train_from_iterator([TEXT * 5], trainer)
    change(tokenizer)
    tokenizer.save(str(path))
    return Bpe(path=str(path)).fit([])


def test_a_tokenizer_of_another_model_cuts_nothing_off_and_adds_nothing(tmp_path: Path) -> None:
    def change(tokenizer: Tokenizer) -> None:
        tokenizer.enable_truncation(2)
        tokenizer.enable_padding(length=64)
        tokenizer.post_processor = processors.TemplateProcessing("<|end|> $A", special_tokens=[("<|end|>", 0)])

    codec = gpt2(tmp_path / "tokenizer.json", change, special_tokens=["<|end|>"])
    assert codec.path is None
    (tmp_path / "tokenizer.json").unlink()  # the codec holds all of it
    again: Any = checked(Bpe, {key: value for key, value in codec.to_plain().items() if key != "name"})
    assert again == codec
    for text in (TEXT, "a<|end|>b", "<|end|>"):  # what looks like a special token is text
        ids = again.encode(text)
        assert again.decode(ids.tolist()) == text
        assert 1 not in ids
    assert again.decode([1]) == "<|end|>"


def other_pattern(tokenizer: Tokenizer) -> None:
    tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(r"\s*\S+\s*"), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(True, use_regex=False)])
    tokenizer.add_tokens([AddedToken("b a", lstrip=True)])


@pytest.fixture(scope="module")
def by_lines(tmp_path_factory: pytest.TempPathFactory) -> Bpe:
    return gpt2(tmp_path_factory.mktemp("tokenizer") / "lines.json", other_pattern)


@given(text=st.text(st.sampled_from("ab .\n\r"), max_size=30))
def test_another_pattern_is_encoded_line_by_line(by_lines: Bpe, text: str) -> None:
    codec = by_lines
    tokenizer = Tokenizer.from_str(codec.tokenizer)
    lines = [tokenizer.encode(line).ids for line in text.replace("\n", "\n|").split("|")]
    assert (codec.encode(text).astype(int) - 1).tolist() == [id for line in lines for id in line]
    assert codec.decode(codec.encode(text).tolist()) == text
    cut = codec.cut(text)
    assert cut == text.rfind("\n") + 1
    assert [*codec.encode(text[:cut]), *codec.encode(text[cut:])] == codec.encode(text).tolist()


def test_a_normalizer_is_named(by_lines: Bpe) -> None:
    assert (by_lines.normalizer, TRAINED.normalizer) == ("NFC", None)


@pytest.mark.parametrize("values", [{"tokenizer": "{}"}, {"tokenizer": "[" * 9999}, {"tokenizer": '{"model": 1}'}])
def test_a_table_that_is_no_tokenizer_is_one_line(values: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"^codec: tokenizer: no tokenizer \(\w+: [^\n]+\)$"):
        checked(Bpe, values, where="codec.")


def test_ids_without_a_token_are_shown_as_unknown(tmp_path: Path) -> None:
    codec = gpt2(tmp_path / "tokenizer.json")
    values = json.loads(codec.tokenizer or "")
    values["model"]["vocab"]["abab"] = 999
    (tmp_path / "holes.json").write_text(json.dumps(values))
    codec = Bpe(path=str(tmp_path / "holes.json"))
    assert codec.size == 1001
    assert codec.decode([1000, 999, 1000]) == "abab\ufffdabab"


def test_without_tokenizers_a_line_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"^codec: bpe needs tokenizers, .*: pip install -e '\.\[bpe\]'$"):
        checked(Bpe, {}, where="codec.")


def test_a_prompt_that_is_no_text_is_refused() -> None:
    codec = Bpe(vocab_size=256).fit([""])
    with pytest.raises(UserError, match=r"^prompt: '\\udcff' is not a character; give a prompt in UTF-8$"):
        codec.prompt("a\udcff")
