import sys
from pathlib import Path

import pytest

from throughline.data.sources import stdlib
from throughline.data.sources.stdlib import StandardLibrary
from throughline.plumbing.errors import UserError


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve small files, and some that are left out."""
    for name in [*(f"m{i:02}.py" for i in range(10)), "package/a.py", "package/b.py", "test/t.py", "notes.txt"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"# {name}\n")
    (tmp_path / "m03.py").write_bytes(b"\xff")
    monkeypatch.setattr(stdlib.sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    return tmp_path


def test_files_in_a_fixed_order_split_by_whole_files(library: Path) -> None:
    corpus = StandardLibrary().read()
    names = ["m00", "m01", "m02", "m04", "m05", "m06", "m07", "m08", "m09", "package/b"]
    assert corpus.codec.decode(corpus.train.steps) == "".join(f"# {name}.py\n" for name in names)
    assert corpus.val.steps.tolist() == corpus.codec.encode("# package/a.py\n").tolist()
    assert corpus.fingerprint["files"] == 11
    assert corpus.fingerprint["bytes"] == 9 * 9 + 2 * 15
    assert len(corpus.train.ends) == 10


def test_as_many_files_as_fit(library: Path) -> None:
    with pytest.raises(UserError, match=r"^data.max_bytes=80: only 8 files of \S+ fit, 10 are needed"):
        StandardLibrary(max_bytes=80).read()


def test_the_running_python_has_enough_of_it() -> None:
    corpus = StandardLibrary().read()
    assert 3_000_000 < corpus.fingerprint["bytes"] <= 4_000_000
    assert corpus.fingerprint["python"] == ".".join(map(str, sys.version_info[:3]))
    assert 0.05 < corpus.val.num_targets / corpus.train.num_targets < 0.25
    assert corpus.fingerprint == StandardLibrary().read().fingerprint
    assert corpus.unknown / corpus.val.num_targets < 1e-3
