"""Helpers for several test modules: settings, corpora, models, runs, and the files that runs leave."""

import csv
import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from filelock import FileLock
from hydra import compose, initialize_config_dir
from lightning.pytorch import Callback
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from torch import Tensor

from throughline.batches.batch import Batch
from throughline.commands.compare import Compare, compare
from throughline.commands.compose import load
from throughline.commands.export import Export
from throughline.config import Config
from throughline.data.codecs import Codec
from throughline.data.codecs.bytes import Bytes
from throughline.data.codecs.characters import Characters
from throughline.data.codecs.frames import Frames
from throughline.data.codecs.symbols import Symbols
from throughline.data.corpus import Corpus
from throughline.data.line import Line
from throughline.model.generator import Generator
from throughline.model.optimizers import SGD
from throughline.model.settings import GRU, LSTM, Model
from throughline.runs import checkpoint
from throughline.runs.checkpoint import load_parts
from throughline.runs.record import Record
from throughline.runs.record import sealed as sealed_record
from throughline.training.commit import Commit
from throughline.training.learner import Learner
from throughline.training.run import train

PROJECT = Path(__file__).parents[1]


def shared_data(name: str) -> Path:
    """A file in the data folder beside the checkout, or in the folder that THROUGHLINE_DATA names."""
    folder = Path(os.environ.get("THROUGHLINE_DATA", PROJECT.parent / "shared" / "data"))
    if not (folder / name).exists():
        pytest.skip(f"{name} is not there: set THROUGHLINE_DATA to the folder that holds it")
    return folder / name


def config(*overrides: str, name: str = "train", cls: type[Any] = Config) -> Any:
    """The settings of a command with these overrides."""
    return load(composed(*overrides, name=name), cls)


@cache  # because it takes 0.07 s, and many tests need the same
def composed(*overrides: str, name: str = "train", hydra: bool = False) -> DictConfig:
    """The configuration that Hydra composes from the YAML files and these overrides, unchecked and read-only."""
    with initialize_config_dir(str(PROJECT / "conf"), version_base="1.3"):
        cfg = compose(name, overrides=list(overrides), return_hydra_config=hydra)
    OmegaConf.set_readonly(cfg, True)
    return cfg


# ---- Corpora


def corpus_of(train: str, val: str, source: str = "fox") -> Corpus:
    """A corpus of two texts, with the fingerprint that a source would give it."""
    content = (train + val).encode()
    origin = {"source": source, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    return Corpus.of(Characters(), [train], [val], origin)


def fox() -> Corpus:
    """About a thousand characters to train on and a hundred to validate on, with structure to learn."""
    return corpus_of("the quick brown fox. " * 50, "the quick brown fox. " * 5)


def names() -> Corpus:
    """90 sequences of 1 to 20 characters to train on, and 10 to validate on, that are not joined."""
    rng = np.random.default_rng(0)
    sequences = ["".join(rng.choice(list("abcde"), n)) for n in rng.integers(1, 21, 100)]
    return Corpus.of(Characters(), sequences[:90], sequences[90:], {"source": "names"}, ended=True, joined=False)


def roll() -> Corpus:
    """60 sequences of 1 to 20 frames of five keys to train on, and 15 each to validate and to test on, not joined."""
    rng = np.random.default_rng(0)
    sequences = [(rng.random((n, 5)) < [0.0, 0.1, 0.5, 0.5, 0.9]).astype(np.uint8) for n in rng.integers(1, 21, 90)]
    parts = {"train": sequences[:60], "val": sequences[60:75], "test": sequences[75:]}
    return Corpus.of(Frames(), origin={"source": "roll"}, ended=True, joined=False, **parts)


def series() -> Corpus:
    """One series of two real features, far from zero: 900 frames to train on, and 400 to validate on."""
    steps = np.random.default_rng(0).standard_normal((1300, 2))
    values = np.stack([300 + np.cumsum(steps[:, 0]), 0.01 * steps[:, 1]], axis=1)
    return Corpus.of(Frames(names=["kelvin", "drift"]), [values[:900]], [values[900:]], {"source": "series"})


SEQUENCES = {
    "beside": ("regime.streams=4", "regime.bptt=8", "regime.sequences=beside"),
    "behind": ("regime.streams=4", "regime.bptt=8", "regime.sequences=behind"),
    "onestep": ("regime=onestep", "regime.updates=64"),
    "segments": ("regime=segments", "regime.steps=8", "regime.batch_size=8"),
    "padded": ("regime=padded", "regime.max_length=8", "regime.batch_size=8"),
    "windowed": ("regime=windowed", "regime.steps=8", "regime.batch_size=64"),
}
"""Regimes for sequences that are not joined."""

SMALL = (
    "model.hidden_size=16",
    "model.embedding_size=8",
    "trainer.accelerator=cpu",
    "logger=none",
    "sampling.length=40",
)
QUICK = ("trainer.max_epochs=3", "trainer.log_every_n_steps=5", "trainer.checkpoint_seconds=1e-9", "model.dropout=0.3")
"""A short training, saved after every batch."""
REGIMES = {
    "stateful": ("regime.streams=4", "regime.bptt=16", "regime.rotate=true"),
    "onestep": ("regime.updates=64",),
    "windowed": ("regime.steps=8", "regime.stride=4", "regime.batch_size=16"),
    "segments": ("regime.steps=16", "regime.batch_size=4"),
    "padded": ("regime.max_length=16", "regime.batch_size=4", "regime.bucket=2"),
}
"""With these settings, an epoch of the small corpora has some dozen batches."""


def run(
    corpus: Corpus,
    folder: Path,
    *overrides: str,
    begin: Callable[[bool], object] | None = None,
    callbacks: Sequence[Callback] = (),
) -> dict[str, Any]:
    """Train a small model and return the summary. The output for a terminal is in `terminal.txt`."""
    settings = replace(config(*SMALL, *overrides), output_root=str(folder))  # replaced, so the rest is composed once
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "terminal.txt").open("w") as terminal:
        console = Console(file=terminal, width=200)
        return train(settings, corpus, folder, callbacks=callbacks, console=console, begin=begin).record.to_plain()


def run_as_from_hydra(corpus: Corpus, folder: Path, *overrides: str) -> dict[str, Any]:
    """A run with its configuration beside it, as the command would leave it."""

    def begin(new: bool) -> None:
        assert new
        (folder / ".hydra").mkdir()
        OmegaConf.save(composed(*SMALL, *overrides), folder / ".hydra" / "config.yaml")
        OmegaConf.save(OmegaConf.create(list(overrides)), folder / ".hydra" / "overrides.yaml")

    folder.mkdir(parents=True)
    return run(corpus, folder, *overrides, begin=begin)


RECORD = Record(
    **{"name": "lstm16-stateful4-s1", "regime": "stateful", "model": "lstm16", "seed": 1, "shape": (4, 16)},
    **{"limits": {"tokens": None, "seconds": None, "max_epochs": 5}, "epochs": 5.0, "tokens": 40, "steps": 5, "updates": 5},
    **{"seconds": 1.0, "wall_seconds": 2.0, "tokens_per_second": 40.0, "train_targets": 8, "reset_every": 16},
    **{"positions": 40, "flops": 400, "matrix_rate": 1e9, "peak_memory_bytes": 1, "parameters": 9, "precision": "32-true"},
    **{"device": "cpu", "devices": 1, "data": {}, "versions": {}},
)
"""A record of no real run."""


def summary_of(folder: Path) -> dict[str, Any]:
    """The contents of `summary.json`, without its seal."""
    values: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return {key: value for key, value in values.items() if key not in ("files", "sha256")}


def resealed(folder: Path) -> None:
    """Seal a finished run again whose files were edited by hand."""
    file = folder / "summary.json"
    values = {key: value for key, value in json.loads(file.read_text()).items() if key != "sha256"}
    values["files"] = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in values["files"]}
    file.write_text(json.dumps(sealed_record(values), indent=2) + "\n")


def masked(batch: Batch) -> list[list[int | None]]:
    """The targets of a batch, with None for those that are not scored."""
    pairs = zip(batch.targets.tolist(), batch.scored.tolist(), strict=True)
    return [[t if s else None for t, s in zip(*row, strict=True)] for row in pairs]


class Killed(BaseException):
    """Ends a run like a kill: the run does not handle it as it handles an exception."""


def run_with_kills(
    corpus: Corpus, folder: Path, kills: list[tuple[str, int]], *overrides: str, last_life: tuple[str, ...] | None = ()
) -> None:
    """Start a run, kill it at the n-th call of each given hook, and resume it each time.

    The last life reaches the end, with the overrides `last_life` added. If `last_life` is None, there is no last life.
    """
    folder.mkdir(exist_ok=True)
    for hook, count in kills:
        calls = 0
        original = getattr(Commit, hook)

        def killing(*args: Any, count: int = count, original: Any = original, **kwargs: Any) -> None:
            nonlocal calls
            calls += 1
            if calls == count:
                raise Killed
            original(*args, **kwargs)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Commit, hook, killing)
            with pytest.raises(Killed):
                run(corpus, folder, *overrides, "resume=auto")
    if last_life is not None:
        run(corpus, folder, *overrides, *last_life, "resume=auto")


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def figures(folder: Path) -> list[dict[str, float]]:
    """The rows of `metrics.csv` as numbers, without the empty cells."""
    return [{key: float(value) for key, value in row.items() if value} for row in rows(folder)]


def column(folder: Path, name: str) -> list[float]:
    return [float(row[name]) for row in rows(folder) if row[name]]


def without_times(folder: Path) -> list[dict[str, str]]:
    return [{k: v for k, v in row.items() if "second" not in k and "device" not in k} for row in rows(folder)]


def weights_hash(folder: Path) -> str:
    model, *_ = load_parts(folder / "checkpoints" / "last.ckpt")
    return hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in model.parameters())).hexdigest()


def kept(folder: Path, name: str = "last.ckpt") -> list[Tensor]:
    """The parameters in a checkpoint of a run."""
    return [p.detach() for p in load_parts(folder / "checkpoints" / name)[0].parameters()]


def resident_bytes(pid: int | str = "self") -> int:
    """The memory that a process holds, as reported by Linux."""
    return int(Path(f"/proc/{pid}/status").read_text(encoding="utf-8").split("VmRSS:")[1].split()[0]) * 1024


def nll_of_checkpoint(folder: Path, line: Line, reset_every: int) -> list[list[float]]:
    """By hand: the nll of every target of the line, with one list for each piece that begins from zeros."""
    model, *_ = load_parts(folder / "checkpoints" / "last.ckpt")
    tokens = torch.from_numpy(line.steps.astype(np.int64))
    pieces = [
        (tokens[i : i + reset_every], tokens[i + 1 : i + 1 + reset_every]) for i in range(0, line.num_targets, reset_every)
    ]
    with torch.no_grad():
        return [
            F.cross_entropy(model(inputs[None, : len(targets)])[0][0], targets, reduction="none").tolist()
            for inputs, targets in pieces
        ]


RESET = 16
MEMBERS = {
    "stateful2": ("regime.streams=2", "regime.bptt=8"),
    "stateful8": ("regime.streams=8", "regime.bptt=8"),
    "segments": ("regime=segments", "regime.steps=8", "regime.batch_size=8"),
    "windowed": ("regime=windowed", "regime.steps=8", "regime.batch_size=16"),
    "onestep": ("regime=onestep", "regime.updates=8"),
}
FOX_AND_DOG = corpus_of("the quick brown fox. " * 40, "the quick brown dog! " * 5, source="fox & dog")
HOSTILE = "</pre></script><script>alert(1)</script><img src=x onerror=alert(2)>"


@cache
def compared(base: Path) -> Path:
    """The folder of a comparison of five members with two seeds each, and of three runs: failed, not finished, damaged.

    Test processes with the same `base` share it. The first process makes it, and the others wait.
    """
    folder = base / "sweep"
    with FileLock(base / "sweep.lock"):
        if not (base / "sweep.made").exists():
            _compare_members(folder)
            (base / "sweep.made").touch()
    return folder / "comparison"


def _compare_members(folder: Path) -> None:
    common = ("budget.tokens=600", "trainer.val_checks=3", "trainer.log_every_n_steps=2", f"evaluation.reset_every={RESET}")
    number = 0
    for seed in (1, 2):
        for overrides in MEMBERS.values():
            seeded = (*overrides, *common, f"seed={seed}", "evaluation.warmup=4")
            run_as_from_hydra(FOX_AND_DOG, folder / str(number), *seeded)
            number += 1
    (folder / "0" / "samples.txt").write_text(HOSTILE)
    resealed(folder / "0")
    for name, seed in (("failed", 3), ("half", 4), ("damaged", 5)):
        shutil.copytree(folder / "2", folder / name)
        settings = folder / name / ".hydra" / "config.yaml"
        settings.write_text(settings.read_text().replace("seed: 1", f"seed: {seed}"))
    (folder / "failed" / "failure.txt").write_text(f"Traceback\nepoch 1, batch 2: {HOSTILE}\n")
    (folder / "half" / "summary.json").unlink()
    (folder / "damaged" / "summary.json").write_text((folder / "2" / "summary.json").read_text()[:-40])
    compare(config(f"runs={folder}", "logger=none", name="compare", cls=Compare))


# ---- Checkpoints and exports of untrained models

LETTERS = Characters(list("abcdefgh"))
EVENTS = Symbols([f"e{i}" for i in range(299)])
KINDS = {
    "embedding": (LSTM(hidden_size=6, embedding_size=5), LETTERS),
    "tied, three layers": (LSTM(hidden_size=6, num_layers=3, embedding_size=6, tie_weights=True, dropout=0.5), LETTERS),
    "one-hot": (LSTM(hidden_size=6, num_layers=2, input="onehot"), LETTERS),
    "one-hot by rows": (LSTM(hidden_size=6, input="onehot"), EVENTS),
    "one-hot by rows, two layers": (LSTM(hidden_size=6, num_layers=2, input="onehot"), EVENTS),
    "gru": (GRU(hidden_size=6, num_layers=2, embedding_size=5), Bytes()),
}


def saved(path: Path, settings: Model, codec: Codec, dtype: torch.dtype = torch.float32, **extra: Any) -> Generator:
    """A model with weights so large that the state matters, saved as by a run."""
    torch.manual_seed(0)
    head = Config().suited(codec).head
    assert head is not None
    model = Generator(settings, codec.size, head).to(dtype).eval()
    for parameter in model.parameters():
        parameter.data *= 3
    learner = Learner(model, codec, SGD(), [], data=extra.pop("data", None))
    content: dict[str, Any] = {"state_dict": learner.state_dict(), **extra}
    learner.on_save_checkpoint(content)
    checkpoint.write(content, path)
    return model


def asked(path: Path, **changes: Any) -> Export:
    """The settings of `src/export.py` that export this file, with ONNX, to the same folder."""
    return Export(**{"checkpoint": str(path), "out": None, "onnx": True, "tolerance": 1e-4, **changes})


class Payload:
    """Creates a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def sealed(content: Any, path: Path) -> None:
    """Write a checkpoint with any content and the right checksum."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    checkpoint._seal(buffer)
    path.write_bytes(buffer.getvalue())
