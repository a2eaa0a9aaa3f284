import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from throughline.data.vocab import UNKNOWN, Vocab
from throughline.plumbing.errors import UserError


def test_characters() -> None:
    vocab = Vocab.of("hello")
    assert vocab.symbols == ["e", "h", "l", "o"]
    assert len(vocab) == 5
    assert vocab.encode("hole!\U0001f600").tolist() == [2, 4, 3, 1, UNKNOWN, UNKNOWN]
    assert vocab.decode([2, 4, 3, 1, 0]) == "hole\ufffd"


def test_events() -> None:
    vocab = Vocab.of(["login", "view", "buy", "view"])
    assert vocab.symbols == ["buy", "login", "view"]
    assert vocab.encode(["view", "quit", "buy"]).tolist() == [3, UNKNOWN, 1]
    assert vocab.decode([2, 3]) == "login view"
    assert vocab.encode_prompt("login  view").tolist() == [2, 3]


def test_an_unknown_symbol_in_a_prompt_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"^prompt: 'x', 'y' not in the vocabulary of this checkpoint: 'a' 'b'$"):
        Vocab.of("ab").encode_prompt("yax")


@given(st.text(min_size=1))
def test_text_survives_the_round_trip(text: str) -> None:
    vocab = Vocab.from_plain(Vocab.of(text).to_plain())
    assert vocab.decode(vocab.encode(text)) == text


@pytest.mark.parametrize(("symbols", "dtype"), [(255, np.uint8), (256, np.uint16), (70_000, np.uint32)])
def test_ids_take_the_smallest_type_that_holds_them(symbols: int, dtype: type) -> None:
    vocab = Vocab([chr(i) for i in range(symbols)])
    ids = vocab.encode(chr(symbols - 1))
    assert ids.dtype == dtype
    assert ids.tolist() == [symbols]


def test_a_long_text_is_encoded_piece_by_piece() -> None:
    text = "ab" * 2**20 + "a"
    assert (Vocab.of(text).encode(text) == np.resize([1, 2], len(text))).all()


def test_a_prompt_without_symbols_is_refused() -> None:
    with pytest.raises(UserError, match=r"^prompt: there is no symbol in it"):
        Vocab.of(["login"]).encode_prompt("  ")
