"""Runs write and reports read one schema."""

import hashlib
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from pydantic.dataclasses import dataclass
from rich.console import Console

from helpers import FOX_AND_DOG, PROJECT, SMALL, config, run, summary_of
from throughline.data.corpus import Corpus
from throughline.data.line import Line
from throughline.plumbing.errors import UserError
from throughline.regimes import Plan, Regime
from throughline.regimes.stateful import Chunks
from throughline.results.comparison import read
from throughline.runs.record import Record, sealed
from throughline.settings import STRICT, PositiveInt
from throughline.training.run import train


def test_what_is_written_is_read(corpus: Corpus, tmp_path: Path) -> None:
    summary = run(corpus, tmp_path, "trainer.max_epochs=1")
    record = Record.read(tmp_path)
    assert record.to_plain() == summary_of(tmp_path) == summary
    written = json.loads((tmp_path / "summary.json").read_text())
    assert written == sealed({**summary, "files": record.files})
    files = ("metrics.csv", "by_position.csv", "samples.txt")
    assert record.files == {name: hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in files}
    assert {"val/nll", "val/nll_reset", "device/utilisation"} <= set(record.metrics)
    assert all("/" in name for name in record.metrics)
    assert not any("/" in f.name for f in fields(Record))


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (None, "{}: not JSON: Expecting property name"),
        ([], "{}: not an object"),
        ({"format": 1}, "written by another version of throughline: format 1, not 2"),
        ({"format": ...}, "written by another version of throughline: format 1, not 2"),  # older records have no such field
        ({"tokens": "many"}, "unreadable: tokens: Input should be a valid integer"),
        ({"tokens": ...}, "unreadable: tokens: Field required"),
        ({"shape": [1]}, "unreadable: shape.1: Field required"),
        ({"tokens": True}, "unreadable: tokens: Input should be a valid integer"),
        ({"tokens": 5.0}, "unreadable: tokens: Input should be a valid integer"),
        ({"tokens": -1}, "unreadable: tokens: Input should be greater than or equal to 0"),
        ({"seconds": "1"}, "unreadable: seconds: Input should be a valid number"),
        ({"data": {"vocab": 3}, "files": {}}, "damaged: summary.json is not as the run left it"),
        ({"sha256": "0" * 64}, "damaged: summary.json is not as the run left it"),
        ({"val/nll": "low"}, "unreadable: metrics.val/nll: Input should be a valid number"),
    ],
)
def test_what_is_no_record_of_this_version_is_refused(change: Any, line: str, corpus: Corpus, tmp_path: Path) -> None:
    file = tmp_path / "summary.json"
    if isinstance(change, dict):
        summary = run(corpus, tmp_path, "trainer.max_epochs=1") | change  # without a seal, as in earlier versions
        file.write_text(json.dumps({key: value for key, value in summary.items() if value is not ...}))
    else:
        file.write_text("{" if change is None else json.dumps(change))
    with pytest.raises(UserError) as error:
        Record.read(tmp_path)
    assert str(error.value).startswith(line.replace("{}", str(file)))
    assert len(str(error.value).splitlines()) == 1


@dataclass(frozen=True, config=STRICT)
class Ribbons(Regime):
    """Strips read side by side. No regime of the package has settings with these names."""

    abreast: PositiveInt = 3
    reach: PositiveInt = 7

    @property
    def shape(self) -> tuple[int, int]:
        return self.abreast, self.reach

    def plan(self, line: Line, seed: int, epoch: int) -> Plan:
        edges = np.arange(self.abreast + 1) * line.num_targets // self.abreast
        start, length = edges[:-1], np.diff(edges)
        bounds = np.unique([*range(0, length.max(), self.reach), length.max()])
        return Chunks(line.num_targets, start, length, np.zeros_like(length), bounds)


def test_a_regime_whose_settings_have_other_names_shows_rightly_in_a_comparison(tmp_path: Path) -> None:
    for seed in (1, 2):
        folder = tmp_path / str(seed)
        settings = config(*SMALL, "budget.tokens=400", f"seed={seed}", "trainer.accumulate_grad_batches=2")
        object.__setattr__(settings, "regime", Ribbons(abreast=4, reach=5))
        train(settings, FOX_AND_DOG, folder, console=Console(quiet=True))
        (folder / ".hydra").mkdir()
        with initialize_config_dir(str(PROJECT / "conf"), version_base="1.3"):
            cfg = compose("train", overrides=["budget.tokens=400", f"seed={seed}"])
        OmegaConf.set_struct(cfg, False)
        cfg.regime = {"_target_": "mine.Ribbons", "abreast": 4, "reach": 5}
        OmegaConf.save(cfg, folder / ".hydra" / "config.yaml")
        (folder / ".hydra" / "overrides.yaml").write_text("[]")
    (member,) = read([tmp_path]).members
    assert (member.label, member.regime, member.shape) == ("ribbons", "ribbons", (4, 5))
    assert [run.metrics["updates"] for run in member.runs] == [10.0, 10.0]  # 20 batches of 20 tokens, two per update
    assert member.metric("tokens_per_second") is not None


def test_no_report_reads_a_setting_of_a_regime() -> None:
    for file in (PROJECT / "src" / "throughline" / "results").glob("*.py"):
        named = [line for line in file.read_text().splitlines() if '"regime.' in line and "_target_" not in line]
        assert all("startswith" in line for line in named), (file.name, named)
