from pathlib import Path

import pytest

from throughline.plumbing.errors import one_line_errors


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
def test_a_write_without_room_anywhere_else_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit, one_line_errors(), Path("/dev/full").open("w", encoding="utf-8") as file:
        print("figures", file=file, flush=True)
    assert exit.value.code == 2
    assert capsys.readouterr().err == "error: writing failed: No space left on device; files saved earlier are unchanged\n"
