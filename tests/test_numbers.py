"""Numbers out of range: each is refused in one line before anything is built, or it works."""

import inspect
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_origin

import pytest
from rich.console import Console

from helpers import PROJECT, SMALL, config, fox
from throughline import memory
from throughline.config import Config
from throughline.plumbing.errors import UserError
from throughline.settings import defaults, kinds, targets, word
from throughline.training.run import train

EXTREME = (0, -1, 10**7, 10**12, 10**30, 1e-300, 1e300, "nan", "inf")
QUICK = ("budget.tokens=64", "regime.streams=2", "regime.bptt=16", "trainer.precision=32-true", "sampling.length=4")


def chooses(file: Path, cls: type[Any]) -> bool:
    """Whether a file in `conf` names this class."""
    return f".{cls.__name__}\n" in file.read_text(encoding="utf-8")


def numeric_settings() -> Iterator[tuple[str, str]]:
    """Every setting of a run whose default is a number, or may be one, with the choice of the group that has it."""
    for field in fields(Config):
        for group in kinds(field.type):
            for choice in targets(group).values() if inspect.isabstract(group) else [group]:
                named = get_origin(field.type) is dict  # several may be chosen, and each is a key of its own
                path = f"{field.name}.{word(choice)}" if named else field.name
                files = [file.stem for file in (PROJECT / "conf" / field.name).glob("*.yaml") if chooses(file, choice)]
                assert files or not named
                chosen = f"{field.name}=[{min(files)}]" if named else f"{field.name}={min(files, default='')}"
                for key, value in defaults(choice).items():
                    of = str(next(f.type for f in fields(choice) if f.name == key))
                    if type(value) in (int, float) or (value is None and ("int" in of or "float" in of)):
                        yield f"{path}.{key}", chosen if files else ""
    yield "seed", ""


SETTINGS = sorted({(key, choice) for key, choice in numeric_settings() if not key.startswith("data.")})
LONG = {"trainer.num_workers", "trainer.devices", "budget.seconds", "budget.tokens", "trainer.max_epochs"}
"""A large value of these is no mistake: it asks for much. So is a network that just fits into memory."""


def test_there_are_settings() -> None:
    assert len(SETTINGS) > 50


def tried(key: str, choice: str, value: Any, folder: Path) -> str:
    """The line in which the value is refused; empty if a run with it ends."""
    folder.mkdir(exist_ok=True)
    quick = [override for override in QUICK if not override.startswith(key + "=")]
    quick = [override for override in quick if not (choice.startswith("regime=") and override.startswith("regime."))]
    overrides = [*SMALL, *quick, *([choice] if choice else []), f"{key}={value}"]
    line, chosen = "", [override for override in overrides[:-1] if override.split("=")[0] != key]
    try:
        train(config(*chosen, overrides[-1]), fox(), folder / "run", console=Console(quiet=True))
    except UserError as error:
        line = str(error)
    assert len(line.splitlines()) <= 1
    assert not line or not (folder / "run" / "summary.json").exists()
    return line


@pytest.mark.slow
@pytest.mark.parametrize(("key", "choice"), SETTINGS)
def test_every_extreme_value_of_every_setting(key: str, choice: str, tmp_path: Path) -> None:
    for number, value in enumerate(EXTREME):
        asks_for_much = value in (10**7, 10**12, 1e300) if key in LONG else value == 10**7 and key.startswith("model.")
        if not asks_for_much:
            tried(key, choice, value, tmp_path / str(number))


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("model.forget_bias", 1e300, "model.forget_bias=1e+300: a number must be finite and at most 3.4e+38"),
        (
            "model.hidden_size",
            10**7,
            "model.hidden_size=10000000: at least",
        ),
        ("regime.streams", 10**12, ""),  # a stream has at least a target
        ("model.num_layers", 10**9, "model.num_layers=1000000000: at least"),
        ("seed", 10**30, "seed=1000000000000000000000000000000: a whole number must be at most 2**53"),
        ("sampling.length", 10**12, "sampling.length=1000000000000: input should be less than or equal to 1000000"),
        ("evaluation.reset_every", 10**11, ""),
        ("evaluation.streams", 10**11, ""),
        ("evaluation.warmup", 10**11, ""),
        ("regime.bptt", 10**9, ""),
    ],
)
def test_a_number_out_of_range_is_named_before_anything_is_built(key: str, value: Any, line: str, tmp_path: Path) -> None:
    told = tried(key, "", value, tmp_path)
    assert told.startswith(line) if line else told == ""


def test_the_estimate_lies_below_the_memory_of_a_real_run(tmp_path: Path) -> None:
    settings = config(*SMALL[2:], "model.hidden_size=256", "regime.streams=16", "regime.bptt=64", "budget.tokens=2048")
    run = train(settings, fox(), tmp_path / "run", console=Console(quiet=True))
    assert 2**20 < memory.of_training(settings, fox()) < run.record.peak_memory_bytes
