"""Flat files of ids: what is read, from which places, and what is refused."""

import json
import pickle
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from throughline.data.codecs.characters import Characters
from throughline.data.codecs.ids import Ids
from throughline.data.corpus import Corpus, num_of_each, num_unknown
from throughline.data.shards import Shard, Shards, stamp
from throughline.data.sources import tokens as module
from throughline.data.sources.tokens import Tokens
from throughline.plumbing.errors import UserError
from throughline.settings import from_plain, plain


def write(path: Path, ids: Any, dtype: str = "<u2", header: list[int] | None = None) -> str:
    first = b"" if header is None else np.array(header + [0] * (256 - len(header)), "<i4").tobytes()
    path.write_bytes(first + np.array(ids, dtype).tobytes())
    return str(path)


def test_ids_are_one_joined_line_and_their_steps_are_one_more(tmp_path: Path) -> None:
    corpus = Tokens(write(tmp_path / "a.bin", [0, 3, 1, 2, 0, 3, 1, 2, 0, 3]), val_fraction=0.2).read()
    assert corpus.train.steps.tolist() == [1, 4, 2, 3, 1, 4, 2, 3]
    assert corpus.val.steps.tolist() == [1, 4]
    assert corpus.train.joined
    assert corpus.train.ends.tolist() == [7]
    assert corpus.codec == Ids(vocab_size=4)
    assert (corpus.fingerprint["vocab"], corpus.fingerprint["bytes"]) == (5, 20)
    assert corpus.fingerprint["read"] == "10 ids of uint16, mapped from the file"
    assert num_unknown(corpus.train, corpus.codec) == 0
    assert num_of_each(corpus.train, 5).tolist() == [0, 1, 2, 2, 2]  # the first step is no target


def test_nanogpts_two_files(tmp_path: Path) -> None:
    train, val = write(tmp_path / "train.bin", [5, 1] * 9), write(tmp_path / "val.bin", [1, 5, 0])
    corpus = Tokens(train, val_path=val, vocab_size=65).read()
    assert corpus.train.steps.tolist() == [6, 2] * 9
    assert corpus.val.steps.tolist() == [2, 6, 1]
    assert corpus.codec.size == 66
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps({}))
    whole = Tokens(str(tmp_path), val_path=val, vocab_size=65).read()  # the folder, but not what is in another split
    assert whole.train.steps.tolist() == corpus.train.steps.tolist()
    assert whole.fingerprint["read"].endswith(
        "files of other splits that were left out: 1; files that do not end with .bin were left out: 1"
    )


def test_a_folder_to_validate_on(tmp_path: Path) -> None:
    train = write(tmp_path / "train.bin", [5, 1] * 9)
    (tmp_path / "val").mkdir()
    write(tmp_path / "val" / "a.bin", [1, 5, 0])
    (tmp_path / "val" / "README.md").write_text("of some tokens")
    assert Tokens(train, val_path=str(tmp_path / "val")).read().val.steps.tolist() == [2, 6, 1]


def test_a_text_is_no_file_of_ids(tmp_path: Path) -> None:
    path = tmp_path / "train.bin"
    path.write_text("the größe of a fox\r\n" * 100)
    with pytest.raises(UserError, match=r"^data.path=.*train.bin: is a text, no flat file of ids; give data=text, or the"):
        Tokens(str(path)).read()
    assert Tokens(str(path), dtype="uint16", vocab_size=65535).read().train.steps[0] == int.from_bytes(b"th", "little") + 1
    Tokens(write(path, list(range(32, 127)) * 9)).read()


def test_shards_with_the_header_of_llm_c(tmp_path: Path) -> None:
    write(tmp_path / "t_000001.bin", [1, 2, 3], header=[20240520, 1, 3])
    write(tmp_path / "t_000002.bin", [70000, 5], "<u4", header=[20240801, 7, 2])
    corpus = Tokens(str(tmp_path / "t_*.bin"), val_fraction=0.4).read()
    assert corpus.line("all").steps.tolist() == [2, 3, 4, 70001, 6]
    assert corpus.train.steps.tolist() == [2, 3, 4]
    assert corpus.fingerprint["files"] == 2
    assert corpus.fingerprint["read"].startswith("5 ids of uint16 and uint32, mapped from the files; 2 files in order")


def test_a_large_vocabulary_means_wide_ids(tmp_path: Path) -> None:
    path = write(tmp_path / "a.bin", [70000, 1, 2, 3] * 5, "<u4")
    assert Tokens(path, vocab_size=100_000).read().train.steps.tolist()[:3] == [70001, 2, 3]
    assert Tokens(path, dtype="uint32").read().codec.size == 70002
    assert Tokens(write(tmp_path / "b.bin", [65535, 0] * 9)).read().train.steps.tolist()[:2] == [65536, 1]


def test_with_a_table_ids_are_text(tmp_path: Path) -> None:
    corpus = Tokens(write(tmp_path / "a.bin", [2, 0, 1] * 9)).read(Characters(["a", "b", "c"]))
    assert corpus.codec.decode(corpus.train.steps.tolist())[:6] == "cabcab"
    assert corpus.codec.prompt("ab").tolist() == [1, 2]


sizes = st.lists(st.integers(1, 9), min_size=1, max_size=4)


@given(sizes, st.data())
def test_any_part_of_any_shards_is_what_it_would_be_in_memory(lengths: list[int], data: st.DataObject) -> None:
    whole = np.arange(sum(lengths), dtype=np.uint16)
    files = []
    for number, ids in enumerate(np.split(whole, np.cumsum(lengths)[:-1])):
        shard = Shard(f"{number}", "<u2", 0, len(ids), (0, 0, 0))
        shard.__dict__["ids"] = ids
        files.append(shard)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Shard, "ids", property(lambda shard: shard.__dict__["ids"]))
        first, last = sorted(data.draw(st.tuples(*[st.integers(0, len(whole))] * 2)))
        part, expected = Shards.of(files, np.uint16)[first:last], whole[first:last] + 1
        assert (len(part), np.asarray(part).tolist(), part.tolist()) == (len(expected), *[expected.tolist()] * 2)
        if first < last:
            positions = np.array(data.draw(st.lists(st.integers(-3, 40), min_size=1, max_size=6)))
            assert part.take(positions).tolist() == expected.take(positions, mode="clip").tolist()
            assert part.take(positions[None]).shape == (1, len(positions))
            assert part[0] == expected[0]
            assert part.dtype == np.uint16


def test_a_line_is_pickled_by_the_path_of_its_file(tmp_path: Path) -> None:
    corpus = Tokens(write(tmp_path / "a.bin", np.arange(50_000))).read()
    corpus.train.at(np.arange(5))
    content = pickle.dumps(corpus.train)
    assert len(content) < 1000
    assert pickle.loads(content).at(np.arange(5)).tolist() == [1, 2, 3, 4, 5]


def test_a_file_that_changes_while_it_is_used_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    line = Tokens(write(path, [1, 2, 3] * 9)).read().train
    line.at(np.arange(3))
    write(path, [1])
    with pytest.raises(UserError, match=r"a.bin: has changed while it is in use; start again with the file as it is$"):
        line.at(np.arange(3))
    path.unlink()
    with pytest.raises(UserError, match=r"a.bin: No such file or directory; a run needs the file until it ends$"):
        line.at(np.arange(3))


def test_large_files_are_gone_over_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.bin"
    source = Tokens(write(path, [1, 2, 3] * 9), prepared_path=str(tmp_path / "kept"))
    small = source.read()
    assert not (tmp_path / "kept").exists()
    monkeypatch.setattr(module, "LARGE", 10)
    calls: list[Shard] = []
    going_over = module._went_over
    monkeypatch.setattr(module, "_went_over", lambda shard: calls.append(shard) or going_over(shard))  # type: ignore[func-returns-value]
    assert source.read().fingerprint == source.read().fingerprint == small.fingerprint
    assert len(calls) == 1
    (note,) = (tmp_path / "kept").iterdir()
    for damaged in (b"[", b"[[1]]", b"[]", b'[["x", 1]]', json.dumps([[3, "a"]] * 2).encode()):
        note.write_bytes(damaged)
        calls.clear()
        assert source.read().fingerprint == small.fingerprint
        assert len(calls) == 1
    write(path, [1, 2, 3] * 8 + [1, 2, 9])
    assert source.read().codec.size == 11
    assert len(calls) == 2


def test_the_identity_of_ids_is_their_content_and_their_split(tmp_path: Path) -> None:
    def tokens(ids: list[int], **settings: Any) -> str:
        found: str = Tokens(write(tmp_path / "a.bin", ids), **settings).read().fingerprint["tokens_sha256"]
        return found

    one = tokens([1, 2, 3, 1, 2, 3])
    assert one == tokens([1, 2, 3, 1, 2, 3])
    assert one != tokens([1, 2, 3, 1, 3, 3])
    assert one != tokens([1, 2, 3, 1, 2, 3], val_fraction=0.5)


def test_a_run_reads_its_ids_again_with_the_codec_of_its_checkpoint(tmp_path: Path) -> None:
    source = Tokens(write(tmp_path / "a.bin", [0, 3, 1, 2] * 9))
    corpus = source.read()
    again: Corpus = from_plain(type(source), plain(source)).read(corpus.codec)
    assert again.fingerprint == corpus.fingerprint


REFUSED: dict[str, tuple[bytes, dict[str, Any], str]] = {
    "empty": (b"", {}, "holds no id; give a whole file, and its data.dtype"),
    "odd": (b"abc", {}, "holds 3 bytes, which are no whole number of uint16; give a whole file, and its data.dtype"),
    "odd for uint32": (b"abcdef", {"dtype": "uint32"}, "holds 6 bytes, which are no whole number of uint32; give a whole"),
    "beyond": (
        np.array([1, 2, 70, 80], "<u2").tobytes(),
        {"vocab_size": 65},
        "id 70 at place 2 is beyond the vocabulary of 65 ids, read as uint16; "
        "give the data.vocab_size of its tokenizer, or data.dtype=uint32",
    ),
    "wide": (
        np.array([1, 2, 3, 4] * 9, "<u4").tobytes(),
        {},
        "every second uint16 is 0, as in a file of uint32; give data.dtype=uint32",
    ),
    "torn": (
        np.array([20240520, 1, 9] + [0] * 253, "<i4").tobytes() + bytes(4),
        {},
        "its header says 9 ids, and 2 are there; give a whole file",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_ids_is_refused(name: str, tmp_path: Path) -> None:
    content, settings, line = REFUSED[name]
    (tmp_path / "a.bin").write_bytes(content)
    with pytest.raises(UserError) as error:
        Tokens(str(tmp_path / "a.bin"), **settings).read()
    assert str(error.value).startswith(f"data.path={tmp_path}/a.bin: {line}")


def test_other_mistakes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.bin", [1, 2, 3] * 9)
    with pytest.raises(UserError, match=r"^data.vocab_size=9: the codec characters has 4 ids; leave it out$"):
        Tokens(path, vocab_size=9).read(Characters(["a", "b", "c", "d"]))
    with pytest.raises(UserError, match=r"id 3 at place 2 is beyond .* of 3 ids.*; give ids of the codec's own tokenizer"):
        Tokens(path).read(Characters(["a", "b", "c"]))
    with pytest.raises(UserError, match=r"^codec=characters: has no table, and there is no text to make it from; give"):
        Tokens(path).read(Characters())
    header = write(tmp_path / "h.bin", [1, 2], header=[20240520, 1, 2])
    with pytest.raises(UserError, match=rf"^data.dtype=uint32: the header of {header} says uint16; leave it out$"):
        Tokens(header, dtype="uint32").read()
    with pytest.raises(UserError, match=r"^data.val_path=.*v.bin: id 9 at place 0 is beyond the vocabulary of 4 ids"):
        Tokens(path, val_path=write(tmp_path / "v.bin", [9, 9])).read()
    with pytest.raises(UserError, match=r"is a pickle, which may hold code; give .bin files"):
        Tokens(write(tmp_path / "meta.pkl", [9, 9])).read()
    with pytest.raises(UserError, match=r"too short: the val split needs at least 2 tokens and has 1$"):
        Tokens(write(tmp_path / "s.bin", [1, 2, 3])).read().refuse_too_short()


def test_the_stamp_of_a_file_is_its_size_its_time_and_its_inode(tmp_path: Path) -> None:
    path = write(tmp_path / "a.bin", [1, 2])
    before = stamp(path)
    assert before[0] == 4
    Path(path).unlink()
    (tmp_path / "other").touch()
    write(tmp_path / "a.bin", [1, 2])
    assert stamp(path) != before
