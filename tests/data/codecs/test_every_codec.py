"""Tests for every codec, present and future. The codecs are found by their files."""

import json
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from throughline.data.codecs import UNKNOWN, Codec
from throughline.data.codecs.bytes import Bytes
from throughline.data.codecs.characters import Characters
from throughline.data.codecs.symbols import Symbols
from throughline.plumbing.errors import UserError
from throughline.settings import checked, from_plain, targets

text = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)
symbol = st.text(st.characters(codec="utf-8", exclude_categories=["Z", "C"]), min_size=1, max_size=5).filter(
    lambda s: len(s.split()) == 1
)
RAW: dict[type[Codec], Any] = {
    Characters: text,
    Symbols: st.lists(symbol, min_size=1, max_size=20),
    Bytes: text.map(str.encode),
}
WRITTEN = {Characters: str, Symbols: " ".join, Bytes: bytes.decode}
"""How a person writes a raw sequence."""
codecs = st.sampled_from(list(RAW))


def test_every_codec_is_tested_here() -> None:
    assert set(targets(Codec).values()) == set(RAW)


@given(codecs, st.data())
def test_what_is_encoded_is_decoded_again(cls: type[Codec], data: st.DataObject) -> None:
    sequences = data.draw(st.lists(RAW[cls], min_size=1, max_size=3))
    codec = cls().fit(sequences)
    for raw in sequences:
        ids = codec.encode(raw)
        assert len(ids) == len(raw)
        assert ids.dtype == codec.dtype
        assert ids.min() > 0
        assert ids.max() < codec.size
        assert codec.decode(ids.tolist()) == WRITTEN[cls](raw)
        np.testing.assert_array_equal(codec.prompt(WRITTEN[cls](raw)), ids)


@given(codecs, st.data())
def test_a_stream_joins_up_to_what_continues_a_prompt(cls: type[Codec], data: st.DataObject) -> None:
    raw = data.draw(RAW[cls])
    codec = cls().fit([raw])
    ids = codec.encode(raw).tolist()
    begun = codec.decode(ids[:1]) if cls is not Bytes else ""  # one byte may be only a part of a character
    rest = ids[1:] if begun else ids
    assert begun + "".join(codec.stream(rest)) == codec.decode(ids)
    pieces = list(codec.stream(iter(rest)))
    assert len(pieces) >= len(rest)  # one piece for each step, as it arrives


@given(codecs, st.data())
def test_a_fitted_codec_survives_as_plain_values(cls: type[Codec], data: st.DataObject) -> None:
    codec = cls().fit([data.draw(RAW[cls])])
    plain = json.loads(json.dumps(codec.to_plain()))
    assert plain["name"] == codec.name == cls.__name__.lower()
    assert from_plain(Codec, plain) == codec  # type: ignore[type-abstract]
    assert codec.fit([]) is codec  # it already has its table


@pytest.mark.parametrize("cls", list(RAW))
def test_the_unknown_symbol_is_shown_and_never_an_opening(cls: type[Codec]) -> None:
    codec = cls().fit({Characters: ["ab"], Symbols: [["a", "b"]], Bytes: [b"ab"]}[cls])
    assert "\N{REPLACEMENT CHARACTER}" in codec.decode([UNKNOWN])
    assert UNKNOWN not in codec.prompt(codec.opening)
    with pytest.raises(UserError, match=r"^prompt: contains no symbol; give at least one$"):
        codec.prompt("")


def test_bytes_written_out() -> None:
    codec = Bytes()
    assert codec.encode(b"\x00A\xff").tolist() == [1, 66, 256]
    assert codec.size == 257
    assert codec.prompt("é").tolist() == [0xC3 + 1, 0xA9 + 1]
    assert list(codec.stream([0xC3 + 1, 0xA9 + 1, 66])) == ["", "é", "A", ""]
    assert list(codec.stream([0xC3 + 1])) == ["", "\N{REPLACEMENT CHARACTER}"]  # cut off inside a character


@pytest.mark.parametrize(
    ("cls", "symbols", "line"),
    [
        (Characters, ["a", "a"], "a symbol occurs twice"),
        (Characters, ["ab"], "a symbol is longer than one character"),
        (Symbols, [" "], "a symbol is empty, or holds what stands between symbols"),
        (Symbols, ["a", "a"], "a symbol occurs twice"),
    ],
)
def test_a_table_that_cannot_be_is_refused(cls: type[Codec], symbols: list[str], line: str) -> None:
    with pytest.raises(UserError, match=line):
        checked(cls, {"symbols": symbols})


def test_symbols_with_spaces_are_apart_by_another_sign() -> None:
    codec = Symbols().fit([["check ticket", "decide"], ["pay, reject"]])
    assert codec.between == "; "
    assert codec.decode([2, 1]) == "decide; check ticket"
    assert codec.prompt("check ticket;decide").tolist() == [1, 2]
    assert "".join(codec.stream([1, 2])) == "; check ticket; decide"
    with pytest.raises(UserError, match="holds what stands between symbols"):
        checked(Symbols, {"symbols": ["a b"], "between": " "})


@pytest.mark.parametrize("codec", [Characters(), Symbols(), Bytes()], ids=lambda codec: codec.name)
def test_an_end_has_the_last_id_and_is_shown_as_a_line_break(codec: Codec) -> None:
    raw: Any = {"text": "ab", "symbols": ["a", "b"], "bytes": b"ab"}[codec.reads]
    plain, ended = codec.fit([raw]), codec.fit([raw]).with_end()
    assert plain.end is None
    assert (ended.end, ended.size) == (plain.size, plain.size + 1)
    a, b = plain.encode(raw).tolist()
    assert ended.encode(raw).tolist() == [a, b]
    assert ended.opening == ""
    assert ended.prompt("").tolist() == [ended.end]
    assert ended.prompt("a").tolist() == [ended.end, a]
    assert ended.decode([a, ended.end, b]) == "a\nb"
    assert from_plain(Codec, ended.to_plain()) == ended  # type: ignore[type-abstract]


def test_a_table_that_is_given_is_kept() -> None:
    codec = Characters(symbols=["b", "a"]).fit(["abc"])
    assert codec.encode("abc").tolist() == [2, 1, UNKNOWN]
