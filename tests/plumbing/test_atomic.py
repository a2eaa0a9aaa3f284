"""Files are written whole or not at all, by one process or several at once."""

import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from throughline.plumbing import atomic


class Killed(BaseException):
    """Neither an `Exception` nor one of Python's own."""


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "full"), ValueError(), KeyboardInterrupt(), SystemExit(143), Killed()]
)
@pytest.mark.parametrize("step", ["fsync", "replace", "link", "open"])
def test_an_exception_at_any_step_leaves_the_old_files_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException
) -> None:
    a, before = tmp_path / "a", tmp_path / "before"
    a.write_bytes(b"old")
    before.write_bytes(b"older")

    def stop(*_: Any, **__: Any) -> None:
        raise error

    if step == "open":  # of the folder, when the files are renamed
        monkeypatch.setattr("os.open", stop)
    else:
        monkeypatch.setattr(f"os.{step}", stop)
    with pytest.raises(type(error)):
        atomic.write({a: b"new"}, keep={a: before})
    monkeypatch.undo()
    written = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert written == ({"a": b"new", "before": b"old"} if step == "open" else {"a": b"old", "before": b"older"})


@pytest.mark.parametrize("number", atomic.NO_FSYNC)
def test_a_file_system_that_cannot_sync_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("os.fsync", refuse)
    atomic.write({tmp_path / "new" / "a": b"a", tmp_path / "new" / "b": b"b"})
    assert {path.name: path.read_bytes() for path in (tmp_path / "new").iterdir()} == {"a": b"a", "b": b"b"}


@pytest.mark.parametrize("number", atomic.NO_LINKS)
def test_where_hard_links_are_refused_the_file_before_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("os.link", refuse)
    a, before = tmp_path / "a", tmp_path / "before"
    for content in (b"1", b"2", b"3"):
        atomic.write({a: content}, keep={a: before})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"3", "before": b"2"}


def test_two_writers_of_one_path_do_not_mix(tmp_path: Path) -> None:
    a, before = tmp_path / "a", tmp_path / "before"
    contents = [bytes([letter]) * 10_000 for letter in b"abcd"]
    errors: list[BaseException] = []

    def write(content: bytes) -> None:
        try:
            for _ in range(100):
                atomic.write({a: content}, keep={a: before})
        except BaseException as error:
            errors.append(error)

    writers = [threading.Thread(target=write, args=(content,)) for content in contents]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert errors == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "before"]
    assert a.read_bytes() in contents
    assert before.read_bytes() in contents


def test_only_temporary_files_are_cleared(tmp_path: Path) -> None:
    for name in ("last.ckpt", "last.ckpt.0123456789abcdef.tmp", "last.ckpt.tmp", "tmp"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.tmp").mkdir()
    atomic.clear(tmp_path)
    atomic.clear(tmp_path / "none")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.tmp", "last.ckpt", "tmp"]
