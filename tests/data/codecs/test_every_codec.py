"""Tests for every codec, present and future. The codecs are found by their files."""

import json
from collections.abc import Iterator
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from throughline.data.codecs import UNKNOWN, Codec
from throughline.data.codecs.bpe import Bpe
from throughline.data.codecs.bytes import Bytes
from throughline.data.codecs.characters import Characters
from throughline.data.codecs.frames import Frames
from throughline.data.codecs.ids import Ids
from throughline.data.codecs.symbols import Symbols
from throughline.data.codecs.words import EOS, UNK, Words
from throughline.plumbing.errors import UserError
from throughline.settings import checked, from_plain, targets

text = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)
symbol = st.text(st.characters(codec="utf-8", exclude_categories=["Z", "C"]), min_size=1, max_size=5).filter(
    lambda s: len(s.split()) == 1
)
white = st.text(st.sampled_from(" \n\t\u3000"), min_size=1, max_size=3)
text_of_words = st.lists(st.tuples(st.sampled_from(["a", "the", "é.", UNK, EOS]) | symbol, white), min_size=1).map(
    lambda pairs: "".join(part for pair in pairs for part in pair)
)


def words_as_lines(text: str) -> str:
    return "\n".join(" ".join(line.split()) for line in text.replace(EOS, "\n").split("\n"))


RAW: dict[type[Codec], Any] = {
    Characters: text,
    Symbols: st.lists(symbol, min_size=1, max_size=20),
    Bytes: text.map(str.encode),
    Words: text_of_words,
    Bpe: text,
    Ids: st.lists(st.integers(0, 300), min_size=1, max_size=20),
}
WRITTEN = {
    Characters: str,
    Symbols: " ".join,
    Bytes: bytes.decode,
    Words: words_as_lines,
    Bpe: str,
    Ids: lambda ids: " ".join(map(str, ids)),
}
"""How a person writes a raw sequence."""
STEPS = {Words: lambda text: len(text.replace("\n", " . ").split())}
"""The steps of a raw sequence, where they are not its parts."""
codecs = st.sampled_from(list(RAW))


def test_every_codec_is_tested_here() -> None:
    assert set(targets(Codec).values()) == {*RAW, Frames}  # frames are no text: see test_frames.py


@given(codecs, st.data())
def test_what_is_encoded_is_decoded_again(cls: type[Codec], data: st.DataObject) -> None:
    sequences = data.draw(st.lists(RAW[cls], min_size=1, max_size=3))
    codec = cls().fit(sequences)
    for raw in sequences:
        ids = codec.encode(raw)
        assert len(ids) == STEPS.get(cls, len)(raw) or cls is Bpe
        assert ids.dtype == codec.dtype
        assert ids.min() > 0
        assert ids.max() < codec.size
        assert codec.decode(ids.tolist()) == WRITTEN[cls](raw)
        np.testing.assert_array_equal(codec.prompt(WRITTEN[cls](raw)), ids)


@given(codecs, st.data())
def test_a_stream_has_a_piece_for_each_step_as_it_arrives(cls: type[Codec], data: st.DataObject) -> None:
    raw = data.draw(RAW[cls])
    codec = cls().fit([raw])
    ids = codec.encode(raw).tolist()
    arrived = 0

    def arriving() -> Iterator[int]:
        nonlocal arrived
        for id in ids:
            arrived += 1
            yield id

    pieces = []
    for piece in codec.stream(arriving()):
        pieces.append(piece)
        assert arrived == min(len(pieces), len(ids))
    assert len(ids) <= len(pieces) <= len(ids) + 1
    assert "".join(pieces) == codec.decode(ids)


@given(codecs, st.data())
def test_a_fitted_codec_survives_as_plain_values(cls: type[Codec], data: st.DataObject) -> None:
    codec = cls().fit([data.draw(RAW[cls])])
    plain = json.loads(json.dumps(codec.to_plain()))
    assert plain["name"] == codec.name == cls.__name__.lower()
    assert from_plain(Codec, plain) == codec  # type: ignore[type-abstract]
    assert codec.fit([]) is codec  # it already has its table


@given(codecs, st.data())
def test_a_sequence_is_encoded_part_by_part(cls: type[Codec], data: st.DataObject) -> None:
    raw = data.draw(RAW[cls])
    size = data.draw(st.integers(1, 8))
    parts, held = [], raw[:0]
    for first in range(0, len(raw), size):  # as a file is read
        held = held + raw[first : first + size]
        cut = cls().cut(held)
        assert 0 <= cut <= len(held)
        parts.append(held[:cut])
        held = held[cut:]
    parts.append(held)
    whole, codec = cls().fit([raw]), cls().fit(iter(parts))
    assert codec == whole
    assert codec.cut(raw) == cls().cut(raw)
    np.testing.assert_array_equal(np.concatenate([codec.encode(part) for part in parts]), whole.encode(raw))


@pytest.mark.parametrize("cls", list(RAW))
def test_the_unknown_symbol_is_shown_and_never_an_opening(cls: type[Codec]) -> None:
    raw: dict[type[Codec], Any] = {Symbols: ["a", "b"], Bytes: b"ab", Words: "a b", Ids: [1, 2]}
    codec = cls().fit([raw.get(cls, "ab")])
    assert (UNK if cls is Words else "\N{REPLACEMENT CHARACTER}") in codec.decode([UNKNOWN])
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
        (Words, ["a b"], "a word is empty, or holds white space"),
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
    assert list(codec.stream([1, 2])) == ["check ticket", "; decide"]
    with pytest.raises(UserError, match="holds what stands between symbols"):
        checked(Symbols, {"symbols": ["a b"], "between": " "})


@pytest.mark.parametrize("codec", [Characters(), Symbols(), Bytes(), Words(), Bpe()], ids=lambda codec: codec.name)
def test_an_end_has_the_last_id_and_is_shown_as_a_line_break(codec: Codec) -> None:
    raw: Any = {"characters": "ab", "symbols": ["a", "b"], "bytes": b"ab", "words": "a b", "bpe": "ab"}[codec.name]
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
