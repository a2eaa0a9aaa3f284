from pathlib import Path
from typing import Any

import pytest
import torch

from throughline import checkpoint
from throughline.errors import UserError


class Payload:
    """Creates a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_file_that_would_run_code_is_refused_and_does_not(tmp_path: Path) -> None:
    torch.save({"throughline": Payload(tmp_path / "owned")}, tmp_path / "evil.ckpt")
    with pytest.raises(UserError, match=r"evil.ckpt: not a checkpoint \(UnpicklingError\)"):
        checkpoint.read(tmp_path / "evil.ckpt")
    assert not (tmp_path / "owned").exists()
    torch.load(tmp_path / "evil.ckpt", weights_only=False)
    assert (tmp_path / "owned").exists()  # the payload does work


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file or directory"),
        (b"", "not a checkpoint"),
        (b"rubbish", "not a checkpoint"),
        ({"state_dict": {}}, "not a checkpoint of throughline"),
        ({"throughline": {"format": 99}}, "format 99; allowed is 1"),
    ],
)
def test_other_files_are_refused_by_name(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "a.ckpt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(UserError, match=message):
        checkpoint.read(path)


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.ckpt"
    checkpoint.write({"throughline": {"format": 1, "x": 1}}, path)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.write({"throughline": {"format": 1, "x": 2}}, path)
    assert checkpoint.read(path)["throughline"]["x"] == 1
