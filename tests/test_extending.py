"""The examples of docs/extending.md work as printed, from a folder outside the package. Anything else is refused."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import PROJECT
from throughline.plumbing.errors import UserError
from throughline.regimes import Regime
from throughline.settings import target_class

PAGE = PROJECT / "docs" / "extending.md"
FILES = re.findall(r"^`(mine/\S+)`\n\n```\w+\n(.*?)```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
DATA = ["data=jsonl", "data.path=notes.jsonl"]
MINE = ["-cd", "mine", "model=elman16", "codec=small"]
CHOICES = [*MINE, *DATA, "regime=varied", "readings=early"]
SMALL = ["regime.rows=4", "regime.mean_steps=8", "logger=none", "trainer.accelerator=cpu", "trainer.max_epochs=1"]


def call(folder: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PROJECT / "src" / script), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of the page, and a run with them in two processes."""
    folder = tmp_path_factory.mktemp("extending")
    for name, content in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    (folder / "notes.jsonl").write_text('{"text": "The quick brown fox. "}\n' * 100)
    where = [f"output_root={folder}/out", "hydra.run.dir=out/run"]
    done = call(folder, "train.py", *CHOICES, *SMALL, *where, "trainer.devices=2")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return folder


def test_the_page_shows_five_parts() -> None:
    assert [name for name, _ in FILES if name.endswith(".py")] == [
        "mine/varied.py",
        "mine/elman.py",
        "mine/jsonl.py",
        "mine/small.py",
        "mine/early.py",
    ]


def test_a_run_by_parts_of_ones_own(folder: Path) -> None:
    summary = json.loads((folder / "out" / "run" / "summary.json").read_text())
    assert (summary["regime"], summary["model"], summary["shape"]) == ("varied", "elman16", [4, 16])
    assert summary["data"]["source"] == "notes.jsonl"
    assert summary["tokens"] == summary["train_targets"] == 90 * 21 - 1
    assert summary["device/utilisation"] > 0
    assert summary["val/nll_early"] > 0
    with (folder / "out" / "run" / "metrics.csv").open(newline="") as file:
        assert any(row["val/nll_early"] for row in csv.DictReader(file))  # also during training


def test_it_resumes(folder: Path) -> None:
    where = [f"output_root={folder}/out", "hydra.run.dir=out/run"]
    longer = [*SMALL[:-1], "trainer.max_epochs=2", "resume=must"]
    done = call(folder, "train.py", *CHOICES, *longer, *where)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert json.loads((folder / "out" / "run" / "summary.json").read_text())["tokens"] == 2 * (90 * 21 - 1)


def test_its_checkpoint_is_used_by_the_same_choice_and_refused_by_name_without(folder: Path) -> None:
    checkpoint = ["checkpoint=out/run/checkpoints/last.ckpt"]
    mine = MINE
    one, other = (call(folder, "generate.py", *mine, *checkpoint, "length=20", f"seed={seed}") for seed in (1, 2))
    assert (one.returncode, one.stderr, len(one.stdout)) == (0, "", 22)
    assert one.stdout != other.stdout
    measured = call(folder, "evaluate.py", *mine, *DATA, "readings=early", *checkpoint)
    assert (measured.returncode, measured.stderr) == (0, "")
    assert "val/nll_early" in measured.stdout
    exported = call(folder, "export.py", *mine, *checkpoint, "out=exported")
    assert exported.stderr == "error: onnx: there is no graph for the core elman; give onnx=false\n"
    assert call(folder, "export.py", *mine, *checkpoint, "out=exported", "onnx=false").returncode == 0
    again = call(folder, "generate.py", *mine, "checkpoint=exported/model.safetensors", "length=20", "seed=1")
    assert again.stdout == one.stdout
    for file in ("out/run/checkpoints/last.ckpt", "exported/model.safetensors"):
        refused = call(folder, "generate.py", f"checkpoint={file}")
        assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
        assert (
            "name='small': allowed are bpe, bytes, characters, frames, ids, symbols, words, or your own class"
            in refused.stderr
        )
        refused = call(folder, "generate.py", *mine, "model.hidden_size=17", f"checkpoint={file}")
        assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
        assert "'hidden_size': 17" in refused.stderr


ALLOWED = r"allowed are throughline.regimes.onestep.Onestep, .*; or a class in a module in "


@pytest.mark.parametrize(
    ("target", "line"),
    [
        ("os.system", ALLOWED),
        ("subprocess.Popen", ALLOWED),
        ("throughline.regimes.Regime", ALLOWED),
        ("throughline.data.sources.text.Text", ALLOWED),
        ("Varied", ALLOWED),
        ("varied", ALLOWED),
        ("..varied.Varied", ALLOWED),
        ("/etc/passwd", ALLOWED),
        (None, ALLOWED),
        (5, ALLOWED),
        ("varied.Nothing", r"varied.py has no such subclass of throughline.regimes.Regime$"),
        ("varied.np", r"varied.py has no such subclass of throughline.regimes.Regime$"),
        ("varied.Chunks", r"varied.py has no such subclass of throughline.regimes.Regime$"),
        ("bad_syntax.X", r"bad_syntax.py: SyntaxError: "),
        ("bad_import.X", r"bad_import.py: ModuleNotFoundError: No module named 'nothing_of_this_name'$"),
        ("unchecked.X", r"its fields are not checked; put @dataclass\(frozen=True, config=STRICT\) before it"),
        ("lacking.X", r"lacking.py: the class has to define plan$"),
        ("json.X", r"a module json already exists; give yours another name$"),
        ("wave.X", r"a module wave already exists; give yours another name$"),
        ("taken.Stateful", r"stateful is a class of throughline; give yours another name$"),
        (["varied.Varied"], ALLOWED),
        ({"a": 1}, ALLOWED),
    ],
)
def test_what_is_no_part_of_this_kind_is_refused(target: object, line: str, folder: Path) -> None:
    mine = folder / "mine"
    (mine / "bad_syntax.py").write_text("def (")
    (mine / "bad_import.py").write_text("import nothing_of_this_name")
    shape = "    shape = (1, 1)\n"
    (mine / "unchecked.py").write_text(f"from varied import Regime\nclass X(Regime):\n{shape}    plan = None\n")
    (mine / "lacking.py").write_text(
        f"from varied import *\n@dataclass(frozen=True, config=STRICT)\nclass X(Regime):\n{shape}"
    )
    head = "from varied import *\n@dataclass(frozen=True, config=STRICT)\n"
    (mine / "taken.py").write_text(f"{head}class Stateful(Regime):\n{shape}    plan = None\n")
    (mine / "wave.py").write_text("")  # a name in the standard library that is not imported yet
    (mine / "json.py").write_text("raise SystemExit('a module of the user took the place of one of Python')")
    before = set(sys.modules)
    with pytest.raises(UserError, match=line) as error:
        target_class("regime", Regime, target, [mine])
    assert str(error.value).startswith(f"regime._target_={target!r}: ")
    assert len(str(error.value).splitlines()) == 1
    new = {name for name in set(sys.modules) - before if not name.startswith("throughline")}
    assert new <= {"varied", "unchecked", "lacking", "taken"}  # only modules in the folder are imported


def test_without_a_folder_nothing_of_ones_own_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "importable.py").write_text("raise SystemExit('it was imported')")
    with pytest.raises(UserError, match=r"allowed are [\w., ]+ShuffledCarry, [\w., ]+$"):
        target_class("regime", Regime, "importable.X", [])
