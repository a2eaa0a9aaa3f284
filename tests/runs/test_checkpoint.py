import errno
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers import KINDS, Payload, saved, sealed
from throughline.plumbing.errors import UserError
from throughline.runs import checkpoint


def test_a_file_that_would_run_code_is_refused_and_does_not(tmp_path: Path) -> None:
    sealed({"throughline": Payload(tmp_path / "owned")}, tmp_path / "evil.ckpt")
    with pytest.raises(UserError, match=r"evil.ckpt: not a checkpoint of throughline \(UnpicklingError\)"):
        checkpoint.read(tmp_path / "evil.ckpt")
    assert not (tmp_path / "owned").exists()
    torch.load(tmp_path / "evil.ckpt", weights_only=False)
    assert (tmp_path / "owned").exists()  # the payload works


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file or directory"),
        (b"", "not a whole checkpoint"),
        (b"rubbish" * 20, "not a whole checkpoint"),
        ({"state_dict": {}}, r"not a checkpoint of throughline \(KeyError\)"),
        ([1], r"not a checkpoint of throughline \(TypeError\)"),
        ({"throughline": {"format": 99}}, "written by another version of throughline, in format 99; this one reads 2"),
    ],
)
def test_other_files_are_refused_by_name(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "a.ckpt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        sealed(content, path)
    with pytest.raises(UserError, match=message):
        checkpoint.read(path)


def example(x: int) -> dict[str, Any]:
    return {"throughline": {"format": checkpoint.FORMAT, "x": x}, "weights": torch.arange(100.0)}


def test_any_flipped_bit_and_any_cut_is_detected(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    checkpoint.write(example(1), path)
    whole = path.read_bytes()
    assert torch.load(path, weights_only=True)["weights"].tolist() == list(range(100))  # other programs can also read it
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << place % 8)]) + whole[place + 1 :])
        with pytest.raises(UserError):
            checkpoint.read(path)
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError):
            checkpoint.read(path)


def test_the_file_before_is_kept(tmp_path: Path) -> None:
    for x in range(3):
        checkpoint.write(example(x), tmp_path / "last.ckpt", tmp_path / "previous.ckpt")
    assert checkpoint.read(tmp_path / "last.ckpt")["throughline"]["x"] == 2
    assert checkpoint.read(tmp_path / "previous.ckpt")["throughline"]["x"] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.ckpt", "previous.ckpt"]


def test_the_file_before_is_kept_where_there_are_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    test_the_file_before_is_kept(tmp_path)


@pytest.mark.parametrize("step", ["fsync", "replace", "link"])
def test_a_write_that_fails_anywhere_leaves_the_old_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    last, previous = tmp_path / "last.ckpt", tmp_path / "previous.ckpt"
    checkpoint.write(example(0), last, previous)
    checkpoint.write(example(1), last, previous)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"os.{step}", full)
    with pytest.raises(UserError, match=r"last.ckpt: No space left on device; no checkpoint can be written"):
        checkpoint.write(example(2), last, previous)
    monkeypatch.undo()
    assert checkpoint.read(last)["throughline"]["x"] == 1
    assert checkpoint.read(previous)["throughline"]["x"] == 0
    assert not (tmp_path / "last.ckpt.tmp").exists()
    checkpoint.write(example(2), last, previous)
    assert checkpoint.read(last)["throughline"]["x"] == 2


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"throughline": {"format": 2}}, r"not a checkpoint of throughline \(KeyError\)"),
        ({"state_dict": ...}, r"not a checkpoint of throughline \(KeyError\)"),
        ({"state_dict": {"generator.x": 1}}, r"not a checkpoint of throughline \(state_dict.generator.x: Input"),
        ({"state_dict": {}}, "weights of no type; allowed are all float32 or all float64"),
        ({"codec": None}, r"\(throughline.codec: Input should be a valid dictionary\)"),
        ({"codec": {"name": "characters", 1: 2}}, r"\(throughline.codec.1.\[key\]: Input should be a valid string\)"),
        ({"model": {"core": "lstm", "hidden_size": 10**7}}, "not the weights that its description lists: "),
        ({"model": {"core": "lstm", "hidden_size": 10**12}}, "its description lists sizes that no tensor can have"),
        ({"head": {"name": "x\n"}}, "head.name='x\\\\n': allowed are bernoulli, categorical"),
    ],
)
def test_a_sealed_file_that_holds_something_else_is_one_line(tmp_path: Path, change: dict[str, Any], line: str) -> None:
    path = tmp_path / "last.ckpt"
    saved(path, *KINDS["embedding"])
    content = checkpoint.read(path)
    inside = {key: value for key, value in change.items() if key in ("codec", "model", "head")}
    content = {
        **content,
        "throughline": {**content["throughline"], **inside},
        **{k: change[k] for k in change.keys() - inside},
    }
    checkpoint.write({key: value for key, value in content.items() if value is not ...}, path)
    with pytest.raises(UserError, match=line) as error:
        checkpoint.load_parts(path)
    assert len(str(error.value).splitlines()) == 1
    assert str(error.value).startswith(f"checkpoint={path}: ")
