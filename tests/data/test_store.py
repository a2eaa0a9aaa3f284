"""Texts larger than memory: what is prepared is what would have been read into memory, and nothing half is left."""

import errno
import gzip
import os
import pickle
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from pydantic.dataclasses import dataclass

from throughline.data import files, long_text, store
from throughline.data.codecs import Codec
from throughline.data.codecs.bpe import Bpe
from throughline.data.codecs.bytes import Bytes
from throughline.data.codecs.characters import Characters
from throughline.data.codecs.words import Words
from throughline.data.corpus import Corpus
from throughline.data.line import Line
from throughline.data.long_text import LongText
from throughline.data.mapped import Mapped
from throughline.data.sources import text as text_source
from throughline.data.sources.text import Text
from throughline.plumbing import atomic, progress
from throughline.plumbing.errors import UserError
from throughline.settings import STRICT

MORE = 7
"""The bytes of a piece in these tests: marks, line breaks and characters lie across its ends."""


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "READ", MORE)
    monkeypatch.setattr(long_text, "PLACE", 2 * MORE)
    monkeypatch.setattr(long_text, "END", 2)


@pytest.fixture
def every_text_is_long(small_pieces: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_source, "LARGE", 0)


def both(source: Text, codec: Codec | None, monkeypatch: pytest.MonkeyPatch) -> list[Corpus | str]:
    """What becomes of a text that stays in its file, and of one in memory: a corpus, or what is said."""
    found: list[Corpus | str] = []
    for large in (0, 2**40):
        monkeypatch.setattr(text_source, "LARGE", large)
        try:
            found.append(source.read(codec))
        except UserError as error:
            found.append(str(error))
    return found


def assert_same(long: Corpus | str, short: Corpus | str) -> None:
    if isinstance(long, str) or isinstance(short, str):
        assert long == short
        return
    assert long.fingerprint == short.fingerprint
    assert long.codec == short.codec
    assert dict(long.too_short) == dict(short.too_short)
    assert list(long.splits) == list(short.splits)
    for split, line in short.splits.items():
        mapped = long.splits[split]
        assert isinstance(mapped.steps, Mapped)
        assert mapped.steps.dtype == line.steps.dtype
        assert mapped.steps.tolist() == line.steps.tolist()
        assert mapped.ends.tolist() == line.ends.tolist()
        assert (mapped.joined, mapped.ended, mapped.names) == (line.joined, line.ended, line.names)


CONTENTS = st.lists(
    st.one_of(
        st.text(st.sampled_from("ab €\U0001f600\r\n"), min_size=1, max_size=40).map(str.encode),
        st.text(st.sampled_from("ab é\r\n"), min_size=1, max_size=40).map(lambda text: text.encode("utf-16")),
        st.text(st.sampled_from("ab é\r\n"), max_size=40).map(lambda text: b"\xef\xbb\xbf" + text.encode()),
        st.binary(max_size=40),
    ),
    min_size=1,
    max_size=3,
)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    contents=CONTENTS,
    codec=st.sampled_from([None, Words(), Bytes(), Bpe(vocab_size=260), Characters(symbols=["a", "b"])]),
    encoding=st.sampled_from(["auto", "auto", "cp1252", "utf-16", "shift_jis"]),
    newline=st.sampled_from(["lf", "keep"]),
    packed=st.booleans(),
)
def test_what_is_prepared_is_what_would_be_in_memory(
    contents: list[bytes],
    codec: Codec | None,
    encoding: str,
    newline: Any,
    packed: bool,
    small_pieces: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("texts")
    for number, content in enumerate(contents):
        name = folder / f"{number}.txt{'.gz' if packed else ''}"
        name.write_bytes(gzip.compress(content) if packed else content)
    source = Text(
        path=str(folder), val_fraction=0.25, test_fraction=0.25, encoding=encoding, newline=newline,
        prepared_path=str(tmp_path_factory.mktemp("prepared")),
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        assert_same(*both(source, codec, patch))


def test_the_property_above_is_not_empty(tmp_path: Path, small_pieces: None, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_bytes("ab\r\n€ab\r\nab".encode())
    (tmp_path / "in" / "b.txt").write_bytes(b"\xef\xbb\xbf" + b"\r\nba")
    long, short = both(
        Text(path=str(tmp_path / "in"), val_fraction=0.4, prepared_path=str(tmp_path / "p")), None, monkeypatch
    )
    assert_same(long, short)
    assert isinstance(long, Corpus)
    assert long.codec.decode(long.line("all").steps.tolist()) == "ab\n€ab\nab\nba"
    assert long.train.steps.tolist() == [2, 3, 1, 4, 2, 3, 1]
    assert long.val.steps.tolist() == [2, 3, 1, 3, 2]
    assert long.val.ends.tolist() == [2, 4]
    assert long.fingerprint["read"].endswith("the line breaks of Windows are read as line feeds")
    assert short.prepared is None  # type: ignore[union-attr]
    assert long.prepared is not None
    assert Path(long.prepared.folder).parent == tmp_path / "p"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"plain text " * 9 + b"\xff and more" * 9, "byte 99 (0xff) is not UTF-8"),
        (b"\xef\xbb\xbf" + b"plain text " * 9 + b"\xff", "byte 102 (0xff) is not utf-8-sig; give another data.encoding"),
        (b"plain\0text" * 9, "holds zero bytes, so it is no UTF-8 text"),
        (b"plain\0text" * 9 + b"\xff", "byte 90 (0xff) is not UTF-8"),
        ("größe ".encode("latin-1") * 50, "byte 2 (0xf6) is not UTF-8; it is likely cp1252: give data.encoding=cp1252"),
        (("a text in UTF-16 " * 9).encode("utf-16-le"), "it is likely utf-16-le: give data.encoding=utf-16-le"),
        (b"%PDF-1.7" + b"\xff" * 90, "is no text but a PDF; save it as text"),
        (b"\xef\xbb\xbf", "the file is empty; give a file with text"),
    ],
)
def test_what_is_no_text_is_refused_in_the_same_words(
    content: bytes, said: str, tmp_path: Path, small_pieces: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "READ", 2**12)  # a wrong byte is looked at with what lies around it
    (tmp_path / "x.txt").write_bytes(content)
    long, short = both(Text(path=str(tmp_path / "x.txt"), prepared_path=str(tmp_path / "p")), None, monkeypatch)
    assert long == short
    assert said in str(long)
    assert not (tmp_path / "p").exists()


@dataclass(frozen=True, config=STRICT)
class Pairs(Characters):
    """A step is a character, and every second one is encoded together with the one before it."""

    def cut(self, raw: str) -> int:
        return len(raw) - len(raw) % 2

    def encode(self, raw: str) -> np.ndarray:
        assert len(raw) % 2 == 0 or raw.endswith("."), "cut elsewhere"
        return super().encode(raw)


@pytest.mark.usefixtures("every_text_is_long")
def test_a_codec_is_given_parts_that_end_where_it_cuts(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("abcabcabcabcabcabc." * 3 + "abcabc")
    (tmp_path / "y.txt").write_text("abc.")
    source = Text(path=str(tmp_path / "x.txt"), val_path=str(tmp_path / "y.txt"), prepared_path=str(tmp_path / "p"))
    with pytest.raises(AssertionError, match="cut elsewhere"):  # the train split ends in the middle of a pair
        source.read(Pairs())
    (tmp_path / "x.txt").write_text("abcabcabcabcabcabc." * 3 + "abc.abc.")
    assert source.read(Pairs()).codec.decode(source.read(Pairs()).train.steps.tolist()).endswith("c.abc.abc.")


@dataclass(frozen=True, config=STRICT)
class Whole(Pairs):
    def cut(self, raw: str) -> int:
        return 0


@pytest.mark.usefixtures("every_text_is_long")
def test_a_text_without_a_place_to_cut_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_text, "LONGEST", 50)
    (tmp_path / "x.txt").write_text("a" * 100)
    said = r"^data.path=.*x.txt: more than 50 characters without a place to cut, such as white space; give codec=characters$"
    with pytest.raises(UserError, match=said):
        Text(path=str(tmp_path / "x.txt"), prepared_path=str(tmp_path / "p")).read(Whole())


@pytest.fixture
def source(every_text_is_long: None, tmp_path: Path) -> Text:
    (tmp_path / "x.txt").write_text("the quick brown fox. " * 9)
    return Text(path=str(tmp_path / "x.txt"), prepared_path=str(tmp_path / "p"))


def prepared_folders(source: Text) -> list[Path]:
    root = Path(str(source.prepared_path))
    return sorted(
        path for path in (root.iterdir() if root.exists() else ()) if path.name != ".lock" and not path.is_symlink()
    )


def test_it_is_prepared_once_until_the_file_or_a_setting_changes(source: Text, monkeypatch: pytest.MonkeyPatch) -> None:
    scans: list[str] = []
    scanned = LongText.scanned
    monkeypatch.setattr(LongText, "scanned", lambda path, *rest: scans.append(path) or scanned(path, *rest))
    corpus = source.read()
    assert_same(source.read(), replace(source.read(), splits={k: in_memory(v) for k, v in corpus.splits.items()}))
    assert len(scans) == 1
    again = replace(source, prepared_path=str(Path(str(source.prepared_path)) / ".." / "p")).read()
    assert again.fingerprint == corpus.fingerprint
    assert len(scans) == 1  # where it is kept is no setting of the data
    replace(source, val_fraction=0.5).read()
    source.read(Bytes())
    assert_same(source.read(corpus.codec), replace(corpus, splits={k: in_memory(v) for k, v in corpus.splits.items()}))
    assert len(scans) == len(prepared_folders(source)) == 3  # as a checkpoint asks, by its own codec
    shutil.rmtree(prepared_folders(source)[0].parent)
    assert source.read(corpus.codec).fingerprint == corpus.fingerprint
    source.read()
    path = Path(str(source.path))
    path.write_bytes(path.read_bytes().upper())
    assert source.read().codec.symbols == sorted(set("THE QUICK BROWN FOX. "))  # type: ignore[attr-defined]
    assert len(scans) == 6


def test_another_tokenizer_in_the_same_file_is_another_codec(source: Text, tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    for text in ("the quick ", "brown fox. "):
        own = Bpe(vocab_size=260).fit([text * 9])
        file.write_text(str(own.tokenizer))
        assert source.read(Bpe(path=str(file))).codec == own
    file.unlink()
    with pytest.raises(UserError, match=r"^codec.path=.*tokenizer.json: No such file or directory"):
        source.read(Bpe(path=str(file)))


def test_steps_that_were_deleted_before_they_are_read_are_one_line(source: Text) -> None:
    corpus = source.read()
    shutil.rmtree(str(source.prepared_path))
    with pytest.raises(UserError, match=r"^.*val.steps: No such file or directory; a run needs the file until it ends$"):
        corpus.val.at(np.array([0]))


def test_the_class_of_a_codec_has_to_be_in_a_file(source: Text) -> None:
    class Typed(Characters):
        """As in a notebook."""

    Typed.__module__ = "nowhere"
    with pytest.raises(UserError, match=r"^codec=typed: its class is in no file, .*; define it in a module$"):
        source.read(Typed())


def in_memory(line: Line) -> Line:
    return replace(line, steps=np.array(line.steps), ends=np.array(line.ends))


@pytest.mark.parametrize("name", ["manifest.json", "train.steps", "val.ends"])
@pytest.mark.parametrize("damage", ["cut", "gone", "nonsense", "folder"])
def test_what_is_damaged_is_prepared_again(name: str, damage: str, source: Text) -> None:
    before = source.read()
    assert before.prepared is not None
    file = Path(before.prepared.folder, name)
    content = file.read_bytes()
    file.unlink()
    if damage == "folder":
        file.mkdir()
    elif damage != "gone":
        file.write_bytes(content[:-1] if damage == "cut" else b'{"codec": 1, "splits": {"train": []}}')
    assert_same(source.read(), replace(before, splits={k: in_memory(v) for k, v in before.splits.items()}))
    assert file.read_bytes()[:2] == content[:2]
    assert len(prepared_folders(source)) == 1


def test_a_text_that_changes_while_it_is_read_is_refused(source: Text, monkeypatch: pytest.MonkeyPatch) -> None:
    path, scanned = Path(str(source.path)), LongText.scanned
    content = path.read_bytes()
    for changed in (content[:50], content.upper(), content + b"more"):
        path.write_bytes(content)

        def changes(*arguments: Any, now: bytes = changed) -> Any:
            found = scanned(*arguments)
            path.write_bytes(now)
            return found

        monkeypatch.setattr(LongText, "scanned", changes)
        with pytest.raises(UserError, match=r"^data.path=.*x.txt: the file changed while it was read; run again when"):
            source.read(Bytes())
        assert prepared_folders(source) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("place", ["write", "fsync", "manifest"])
def test_a_disk_that_is_full_leaves_one_line_and_nothing_else(
    number: int, place: str, source: Text, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> Any:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        if place == "fsync":
            patch.setattr(atomic, "fsync", full)
        elif place == "manifest":
            patch.setattr(store, "_manifest", full)
        else:
            patch.setattr(Bytes, "encode", full)  # stands for a write of its result
        with pytest.raises(UserError) as refused:
            source.read(Bytes())
    assert str(refused.value) == (
        f"data.prepared_path={source.prepared_path}: {os.strerror(number)}; "
        "give a folder that can be written, with room for the steps"
    )
    assert prepared_folders(source) == []
    assert source.read(Bytes()).train.num_targets > 0


def test_a_folder_that_is_none_is_refused(source: Text, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"^data.prepared_path=.*file.*: Not a directory; give a folder that can be written"):
        replace(source, prepared_path=str(tmp_path / "file" / "in")).read()
    with pytest.raises(UserError, match=r"^data.val_path=nowhere: No such file or directory; give a readable file$"):
        replace(source, val_path="nowhere").read()


def read_and_die(source: Text, calls: int) -> None:
    """Read, and end without warning at a call of fsync."""
    fsync, left = atomic.fsync, iter(range(calls, -1, -1))
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(atomic, "fsync", lambda number: os._exit(9) if next(left) == 1 else fsync(number))
            source.read()
            os._exit(0)
    finally:
        os._exit(2)


def test_a_process_that_is_killed_leaves_nothing_half(source: Text) -> None:
    """Killed at each of the calls that make a file safe: what is there afterwards is nothing, or all."""
    whole = source.read()
    steps = in_memory(whole.train).steps.tolist()
    shutil.rmtree(str(source.prepared_path))
    found = set()
    for calls in range(1, 9):
        pid = os.fork()
        if pid == 0:
            read_and_die(source, calls)
        found.add(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        names = [path.suffix for path in prepared_folders(source)]
        assert names in ([".tmp"], [""])
        again = source.read()
        assert again.train.steps.tolist() == steps
        assert [path.suffix for path in prepared_folders(source)] == [""]  # without what the killed one has left
        shutil.rmtree(str(source.prepared_path))
    assert found == {0, 9}


def read_slowly(source: Text, scans: Path) -> None:
    """Read, and note each scan of a file."""
    scanned = LongText.scanned

    def slowly(*arguments: Any) -> Any:
        with scans.open("a", encoding="utf-8") as file:
            file.write("x")
        time.sleep(0.3)
        return scanned(*arguments)

    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(LongText, "scanned", slowly)
            os._exit(0 if source.read().train.num_targets == 169 else 1)
    finally:
        os._exit(2)


def test_of_processes_at_once_one_prepares_and_the_others_wait(source: Text, tmp_path: Path) -> None:
    pids = []
    for _ in range(4):
        pid = os.fork()
        if pid == 0:
            read_slowly(source, tmp_path / "scans")
        pids.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] == [0] * 4
    assert (tmp_path / "scans").read_text() == "x"


def test_a_line_is_pickled_by_its_path(source: Text) -> None:
    train = source.read().train
    assert len(pickle.dumps(train)) < 1000
    assert pickle.loads(pickle.dumps(train)).steps.tolist() == train.steps.tolist()


def test_progress_counts_what_is_read(source: Text) -> None:
    counted: list[tuple[int, int]] = []

    class Bar:
        def advance(self, done: int, more: int = 0) -> None:
            counted.append((done, more))

    token = progress._shown.set(Bar())  # type: ignore[arg-type]
    source.read()
    progress._shown.reset(token)
    size = Path(str(source.path)).stat().st_size
    assert sum(more for _, more in counted) == 3 * size
    assert 2.5 * size < sum(done for done, _ in counted) < 3.5 * size
