"""These tests notice changes of behaviour that Lightning and PyTorch do not promise to keep."""

import inspect
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.utilities.signature_utils import is_param_in_hook_signature

from helpers import PROJECT, run
from throughline.data.corpus import Corpus
from throughline.plumbing import stopping
from throughline.training import internals
from throughline.training.learner import Learner


def test_the_signature_of_a_step_is_kept(corpus: Corpus, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning asks for the signature at each step, and gets the one that was kept."""
    asked = []

    def noted(step: Any, *args: Any, **kwargs: Any) -> Any:
        asked.append(getattr(step, "__signature__", None))
        return is_param_in_hook_signature(step, *args, **kwargs)

    monkeypatch.setattr(
        "lightning.pytorch.trainer.connectors.data_connector.is_param_in_hook_signature", noted, raising=False
    )
    monkeypatch.setattr("lightning.pytorch.loops.training_epoch_loop.is_param_in_hook_signature", noted)
    run(corpus, tmp_path, "trainer.max_epochs=1")
    kept = Learner.training_step.__signature__  # type: ignore[attr-defined]
    assert kept == inspect.Signature.from_callable(Learner.training_step)
    assert asked
    assert set(asked) == {kept}


def test_lightning_notes_the_hook_that_it_is_in(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noted = []

    def note(self: internals.QuickNotes, name: str, value: object) -> None:
        if name == "_current_fx_name":
            noted.append(value)
        original(self, name, value)

    original = internals.QuickNotes.__setattr__
    monkeypatch.setattr(internals.QuickNotes, "__setattr__", note)
    summary = run(corpus, tmp_path, "trainer.max_epochs=1")
    assert noted.count("on_train_batch_end") >= summary["steps"]
    assert len(noted) > 10 * summary["steps"]


def test_a_trainer_installs_no_handler(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    during = {}

    def note(*_: Any) -> None:
        during.update({number: signal.getsignal(number) for number in (*stopping.EXIT_STATUS, signal.SIGUSR2)})

    monkeypatch.setattr(Learner, "on_validation_start", note)
    before = signal.getsignal(signal.SIGUSR2)
    run(corpus, tmp_path, "trainer.max_epochs=1")
    assert during == {**dict.fromkeys(stopping.EXIT_STATUS, stopping._note), signal.SIGUSR2: before}


def test_each_reach_names_a_test_that_is_there() -> None:
    ours = [value for value in vars(internals).values() if inspect.isfunction(value) or inspect.isclass(value)]
    reaches = [value for value in ours if value.__module__ == internals.__name__]
    tests = " ".join(file.read_text() for file in (PROJECT / "tests").rglob("test_*.py"))
    assert len(reaches) >= 6
    for reach in reaches:
        named = re.findall(r"[Nn]oticed by\s+`(\w+)`", str(reach.__doc__))
        assert named, reach
        assert all(f"def {name}(" in tests for name in named), named
