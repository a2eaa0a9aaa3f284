"""A corpus: its splits, and those that are too short."""

from typing import Any

import pytest

from throughline.config import Config
from throughline.data.codecs.characters import Characters
from throughline.data.corpus import Corpus
from throughline.plumbing.errors import UserError


def test_a_split_that_is_too_short_is_refused_when_it_is_asked_for() -> None:
    codec = Characters(list("ab"))
    corpus = Corpus.of(codec, ["ab"], [], test=[""], ended=True, joined=False)
    assert corpus.train.steps.tolist() == [3, 1, 2, 3]
    for split in ("val", "test"):
        with pytest.raises(
            UserError, match=rf"^memory: the {split} split has no symbol; give .* a larger {split}_fraction$"
        ):
            corpus.line(split)
    assert corpus.line("all").steps.tolist() == [3, 1, 2, 3, 3]
    corpus = Corpus.of(codec, ["aba"], ["b"])
    assert corpus.line("all").steps.tolist() == [1, 2, 1, 2]
    with pytest.raises(UserError, match=r"^memory: too short: the val split needs at least 2 tokens and has 1$"):
        _ = corpus.val
    corpus = Corpus.of(codec, [], ["ab"], ended=True, joined=False)
    assert corpus.line("all").steps.tolist() == corpus.val.steps.tolist() == [3, 1, 2, 3]
    with pytest.raises(UserError, match=r"^memory: the train split has no symbol; give more data, or a smaller val"):
        _ = corpus.train
    with pytest.raises(UserError, match=r"^memory: has nothing to predict; give at least 2 symbols$"):
        Corpus.of(codec, [], [""]).line("all")


def test_joined_or_not_it_is_the_same_data_but_another_run() -> None:
    sequences: Any = (["ab", "b"], ["a"])
    joined, apart = (Corpus.of(Characters(), *sequences, ended=True, joined=joined) for joined in (True, False))
    assert joined.fingerprint["tokens_sha256"] == apart.fingerprint["tokens_sha256"]
    differing = {key for key, value in Config().identity(joined).items() if Config().identity(apart)[key] != value}
    assert differing == {"data.joined"}
    assert Config().usual["data.joined"] is True  # an earlier version wrote it nowhere, and joined all


def test_data_of_which_the_codec_knows_nothing_can_be_scored_but_not_trained_on() -> None:
    corpus = Corpus.of(Characters(["x"]), ["ab"], ["ab"])
    assert corpus.line("all").steps.tolist() == [0, 0, 0, 0]
    told = r"^memory: the codec characters knows none of its symbols; give other data, or codec.symbols=null$"
    with pytest.raises(UserError, match=told):
        corpus.refuse_too_short()
