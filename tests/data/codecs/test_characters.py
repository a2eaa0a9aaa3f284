"""Characters and symbols written out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from throughline.data.codecs import UNKNOWN
from throughline.data.codecs.characters import Characters
from throughline.data.codecs.symbols import Symbols
from throughline.plumbing.errors import UserError


def test_characters() -> None:
    codec = Characters().fit(["hello"])
    assert codec.symbols == ["e", "h", "l", "o"]
    assert codec.size == 5
    assert codec.encode("hole!\U0001f600").tolist() == [2, 4, 3, 1, UNKNOWN, UNKNOWN]
    assert codec.decode([2, 4, 3, 1, 0]) == "hole\ufffd"


def test_symbols() -> None:
    codec = Symbols().fit([["login", "view"], ["buy", "view"]])
    assert codec.symbols == ["buy", "login", "view"]
    assert codec.encode(["view", "quit", "buy"]).tolist() == [3, UNKNOWN, 1]
    assert codec.decode([2, 3]) == "login view"
    assert list(codec.stream([2, 3])) == ["login", " view"]
    assert codec.prompt("login  view").tolist() == [2, 3]


def test_an_unknown_symbol_in_a_prompt_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"^prompt: 'x', 'y' not in the vocabulary of this checkpoint: 'a' 'b'$"):
        Characters().fit(["ab"]).prompt("yax")


@given(st.text(min_size=1))
def test_any_text_survives_the_round_trip(text: str) -> None:
    codec = Characters().fit([text])
    assert codec.decode(codec.encode(text).tolist()) == text


@pytest.mark.parametrize(("symbols", "dtype"), [(255, np.uint8), (256, np.uint16), (70_000, np.uint32)])
def test_ids_take_the_smallest_type_that_holds_them(symbols: int, dtype: type) -> None:
    codec = Characters([chr(i) for i in range(0x10000, 0x10000 + symbols)])
    ids = codec.encode(chr(0x10000 + symbols - 1))
    assert ids.dtype == dtype
    assert ids.tolist() == [symbols]


def test_a_long_text_is_encoded_piece_by_piece() -> None:
    text = "ab" * 2**20 + "a"
    assert (Characters().fit([text]).encode(text) == np.resize([1, 2], len(text))).all()


def test_a_prompt_without_symbols_is_refused() -> None:
    with pytest.raises(UserError, match=r"^prompt: contains no symbol"):
        Symbols().fit([["login"]]).prompt("  ")


def test_a_prompt_with_an_escaped_line_break_gets_a_hint() -> None:
    with pytest.raises(UserError, match=r"; a shell writes a line break as prompt=\$'\\n'$"):
        Characters(["\n", "n"]).prompt("\\n")
