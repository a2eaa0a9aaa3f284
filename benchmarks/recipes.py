"""Compare regimes, cores and optimizers, and write RECIPES.md: python -m benchmarks.recipes [--only regimes cores ...].

Each run is saved in `benchmarks/kept/recipes.jsonl` as soon as it is done, so the work can be interrupted and continued.
THROUGHLINE_DATA is the folder that contains tinyshakespeare/input.txt; without it, only the embedded corpus is used.
"""

import argparse
import contextlib
import io
import itertools
import sys
import tempfile
from collections.abc import Iterator
from statistics import mean
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from rich.console import Console

from benchmarks.measurements.environment import machine_and_torch
from benchmarks.page.seeds import keep, kept, shown
from benchmarks.peers import shakespeare
from benchmarks.peers.shakespeare import PROJECT
from throughline.commands.compose import load
from throughline.config import Config
from throughline.data.line import Line
from throughline.model.generator import Generator
from throughline.training.run import train

KEPT = PROJECT / "benchmarks" / "kept" / "recipes.jsonl"
SEEDS = (1, 2, 3)
COMMON = ("logger=none", "trainer.threads=2", "sampling.length=1", "sampling.every=0", "trainer.log_every_n_steps=1000")
DATA = {"stdlib": ("data=stdlib",), "tinyshakespeare": ("data=shakespeare",)}
SECONDS, TOKENS = 8, 1_000_000

REGIMES = {
    "stateful": (),
    "stateful, rotated": ("regime.rotate=true",),
    "stateful, bptt 8 in the first pass": ("regime.bptt_start=8", "regime.bptt_epochs=1"),
    "random_bptt": ("regime=random_bptt",),
    "overlapping, 64 by 32": ("regime=overlapping",),
    "segments": ("regime=segments",),
    "segments, burn-in of 32": ("regime=segments", "regime.burn_in=32"),
    "passed": ("regime=passed",),
    "passed, noise": ("regime=passed", "regime.first_state=noise"),
    "shuffled_carry": ("regime=shuffled_carry",),
}
CORES = {
    "lstm256": (),
    "gru256": ("model=gru256",),
    "layernormlstm256": ("model=layernormlstm256",),
    "mingru256": ("model=mingru256", "optimizer.lr=0.003"),
    "minlstm256": ("model=minlstm256", "optimizer.lr=0.003"),
}
OPTIMIZERS = {
    "adamw, lr 0.01": (),
    "muon, lr 0.01": ("optimizer=muon",),
    "muon, lr 0.03": ("optimizer=muon", "optimizer.lr=0.03"),
    "adam, lr 0.003": ("optimizer=adam", "optimizer.lr=0.003"),
    "rmsprop, lr 0.002": ("optimizer=rmsprop",),
    "sgd, lr 2": ("optimizer=sgd", "optimizer.lr=2"),
    "dropout 0.1": ("model.dropout=0.1",),
    "variational dropout 0.1": ("model.dropout=0.1", "model.variational=true"),
    "weight drop 0.2": ("model.weight_drop=0.2",),
    "AR 2 and TAR 1": ("penalties.activation=2", "penalties.temporal=1"),
}
TABLES = {"regimes": REGIMES, "cores": CORES, "optimizers": OPTIMIZERS}

PLACES, FURTHEST = 24, 100_000
"""From how many places the validation split is read in a curve by distance, and how far."""
DISTANCES = (1, 10, 32, 100, 320, 1000, 3200, 10_000, 32_000, 100_000)
OF_CURVE = ("stateful", "segments", "segments, burn-in of 32", "passed", "passed, noise", "overlapping, 64 by 32")


def settings(data: str, chosen: tuple[str, ...]) -> Config | None:
    """The settings of a run; None if its data are not there."""
    overrides = [*DATA[data], *COMMON, *chosen]
    if data == "tinyshakespeare":
        if not shakespeare.path().exists():
            return None
        overrides.append(f"data.path={shakespeare.path()}")
    with initialize_config_dir(str(PROJECT / "conf"), version_base="1.3"):
        return load(compose("train", overrides), Config)


def measured(key: dict[str, Any], chosen: tuple[str, ...], distances: bool = False) -> dict[str, Any] | None:
    """Train once, and return the figures of the run."""
    budget = f"budget.{key['budget']}={SECONDS if key['budget'] == 'seconds' else TOKENS}"
    config = settings(key["data"], (*chosen, budget, f"seed={key['seed']}"))
    if config is None:
        return None
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        run = train(config, None, folder, console=Console(quiet=True))
        record = run.record
        found = {
            **key,
            "nll": record.metrics["val/nll"],
            "reset": record.metrics["val/nll_reset"],
            "tokens": record.tokens,
            "speed": record.tokens_per_second,
            "parameters": record.parameters,
            "precision": record.precision,
        }
        if distances:
            found["distances"] = by_distance(run.generator, run.corpus(config.data).val)
    return found


@torch.inference_mode()
def by_distance(generator: Generator, line: Line) -> list[float]:
    """The mean nll by distance from zeros, between one of DISTANCES and the next.

    Rows begin at equal distances over the line and go on at its beginning after its end, so every distance sees all of it.
    """
    targets, state, sums = line.num_targets, None, np.zeros(FURTHEST)
    start = np.arange(PLACES) * targets // PLACES
    for first in range(0, FURTHEST, 1000):
        at = (start[:, None] + np.arange(first, min(first + 1000, FURTHEST))) % targets
        inputs, following = (torch.from_numpy(line.at(place).astype(np.int64)) for place in (at, at + 1))
        nll, state = generator.nll(inputs, following, state)
        sums[first : first + at.shape[1]] = nll.double().mean(dim=0).numpy()
    return [float(sums[low - 1 : high - 1].mean()) for low, high in itertools.pairwise(DISTANCES)]


def jobs(chosen: list[str]) -> Iterator[tuple[dict[str, Any], tuple[str, ...], bool]]:
    """Seeds come first, so that work that ends early has seen everything once."""
    for seed in SEEDS:
        for table in chosen:
            budgets = ("seconds", "tokens") if table == "regimes" else ("seconds",)
            for data in DATA if table == "regimes" else ("tinyshakespeare",):
                for budget in budgets:
                    for name, overrides in TABLES[table].items():
                        curve = table == "regimes" and budget == "tokens" and name in OF_CURVE
                        key = {"table": table, "data": data, "budget": budget, "name": name, "seed": seed}
                        yield key, overrides, curve and data == "tinyshakespeare"


def page(rows: list[dict[str, Any]]) -> str:
    def of(**key: Any) -> list[dict[str, Any]]:
        return [row for row in rows if all(row[name] == value for name, value in key.items())]

    lines = [
        "# Recipes",
        "",
        "From `python -m benchmarks.recipes`, which trains LSTM(256) unless a row says otherwise, with the defaults of the",
        f"project and what the row names. A figure is the mean over {len(SEEDS)} seeds ± half their range: validation nll",
        "in nats per character, carried through the whole split, and in brackets from zeros every 256 steps.",
        "",
        f"Machine: {machine_and_torch()}.",
        "",
        "## Regimes",
        "",
        f"At equal time ({SECONDS} s of training) and at equal tokens ({TOKENS:,}): a single pass over tinyshakespeare.",
        "So early, rows differ by the number of their updates as well as by what they carry.",
        "",
        "| regime | "
        + " | ".join(f"{data}, equal {budget}" for data in DATA for budget in ("seconds", "tokens"))
        + " | tokens/s |",
        "| --- | " + "--- | " * 5,
    ]
    for name in REGIMES:
        cells = []
        for data in DATA:
            for budget in ("seconds", "tokens"):
                own = of(table="regimes", data=data, budget=budget, name=name)
                cells.append(f"{shown([r['nll'] for r in own])} ({shown([r['reset'] for r in own])})" if own else "")
        speeds = [r["speed"] for r in of(table="regimes", budget="seconds", name=name)]
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {mean(speeds):,.0f} |" if speeds else f"| {name} | |")
    lines += [
        "",
        "## Loss by distance from a reset",
        "",
        f"tinyshakespeare, after {TOKENS:,} tokens: the mean nll between a distance and the next one, read from zeros at",
        f"{PLACES} places of the validation split.",
        "",
        "| regime | " + " | ".join(f"from {low:,}" for low in DISTANCES[:-1]) + " |",
        "| --- | " + "--- | " * (len(DISTANCES) - 1),
    ]
    for name in OF_CURVE:
        curves = [row["distances"] for row in of(table="regimes", name=name) if "distances" in row]
        cells = [shown([curve[k] for curve in curves], 3) for k in range(len(DISTANCES) - 1)]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    slower = " mingru256 and minlstm256 with `optimizer.lr=0.003`."
    for table, what, more in (("cores", "core", slower), ("optimizers", "optimizer or regulariser", "")):
        lines += [
            "",
            f"## {table.capitalize()}",
            "",
            f"tinyshakespeare, {SECONDS} s of training.{more}",
            "",
            f"| {what} | val nll | reset | tokens/s | parameters | precision |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        for name in TABLES[table]:
            if own := of(table=table, name=name):
                figures = [shown([r[part] for r in own]) for part in ("nll", "reset")]
                lines.append(
                    f"| {name} | {figures[0]} | {figures[1]} | {mean(r['speed'] for r in own):,.0f} "
                    f"| {own[0]['parameters']:,} | {own[0]['precision']} |"
                )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=TABLES, default=list(TABLES))
    known = [{name: row[name] for name in ("table", "data", "budget", "name", "seed")} for row in kept(KEPT)]
    for key, chosen, curve in jobs(parser.parse_args().only):
        if key in known:
            continue
        found = measured(key, chosen, curve)
        if found is None:
            continue
        print(found, file=sys.stderr, flush=True)
        keep(KEPT, found)
        (PROJECT / "benchmarks" / "RECIPES.md").write_text(page(kept(KEPT)))


if __name__ == "__main__":
    main()
