"""The wheel holds all that a run needs, and works in another folder."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import PROJECT


def called(*command: str, cwd: Path, **variables: str) -> str:
    done = subprocess.run(command, cwd=cwd, env={**os.environ, **variables}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_wheel_trains_and_generates_in_another_folder(tmp_path: Path) -> None:
    source, site, away = (tmp_path / name for name in ("source", "site", "away"))
    for name in ("src", "conf"):
        shutil.copytree(PROJECT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    called(*pip, "wheel", "--no-deps", "--wheel-dir", str(tmp_path), str(source), cwd=tmp_path)
    (wheel,) = tmp_path.glob("throughline_lstm-*.whl")
    called(*pip, "install", "--no-deps", "--target", str(site), str(wheel), cwd=tmp_path)
    away.mkdir()
    (away / "my.txt").write_text("the quick brown fox jumps over the lazy dog. " * 60)
    here = {"PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"}
    where = called(sys.executable, "-c", "import throughline; print(throughline.__file__)", cwd=away, **here)
    assert Path(where.strip()).is_relative_to(site)
    small = ["data=text", "data.path=my.txt", "logger=none", "model=lstm128", "regime=stateful8", "budget.tokens=2000"]
    said = called(sys.executable, str(site / "bin" / "throughline-train"), *small, cwd=away, **here)
    assert "run: outputs/" in said
    (checkpoint,) = (away / "outputs").rglob("best.ckpt")
    command = [str(site / "bin" / "throughline-generate"), f"checkpoint={checkpoint}", "length=30", "seed=1"]
    assert len(called(sys.executable, *command, cwd=away, **here)) >= 31
