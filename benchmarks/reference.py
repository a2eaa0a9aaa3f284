"""Run rows of REFERENCE.md from nothing, and write it: python -m benchmarks.reference [ROW ...] [--seeds 1 2 3].

Without a row, the names of all rows are printed. Each run is one call of `src/train.py` and one of `src/evaluate.py`, and is
saved in `benchmarks/kept/reference.jsonl`. THROUGHLINE_DATA is the folder that contains the data sets.
"""

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.measurements.environment import OURS, environment, machine_and_torch
from benchmarks.page.seeds import keep, kept, shown
from benchmarks.peers import shakespeare
from benchmarks.peers.shakespeare import PROJECT

KEPT = PROJECT / "benchmarks" / "kept" / "reference.jsonl"
READINGS = "readings=[carried,reset,dynamic,cache]"


@dataclass(frozen=True)
class Row:
    """A published figure, and the command that stands beside it.

    Attributes:
        source, published: who says what.
        settings: of `src/train.py`; DATA is the folder of the data sets.
        needs: a file in that folder; empty if nothing is needed.
        split: the split of the published figure.
        unit: `nll` in nats per step, or `ppl`.
        readings: whether dynamic evaluation and the cache are measured as well; they take one step after another.
        note: what differs from the source.
    """

    source: str
    published: str
    settings: str
    needs: str = ""
    split: str = "val"
    unit: str = "nll"
    readings: bool = True
    note: str = ""


SHAKESPEARE = "data=shakespeare data.path=DATA/tinyshakespeare/input.txt"
PTB = (
    "data=text codec=words data.path=DATA/ptb/ptb.train.txt data.val_path=DATA/ptb/ptb.valid.txt "
    "data.test_path=DATA/ptb/ptb.test.txt"
)
WIKITEXT = (
    "data=text codec=words data.path=DATA/wikitext2/train.txt data.val_path=DATA/wikitext2/valid.txt "
    "data.test_path=DATA/wikitext2/test.txt"
)
SMALL = (
    "model.num_layers=2 model.hidden_size=200 model.embedding_size=200 model.tie_weights=true model.dropout=0.2 "
    "regime.bptt=35 optimizer.lr=0.003"
)


def of_order(source: str, published: str, regime: str) -> Row:
    """One of the runs of Kocher's ablation, which differ in the order alone.

    They read a pass and a half, so that another offset can do something.
    """
    settings = f"{WIKITEXT} {SMALL} regime.streams=80 trainer.val_check_interval=100000 budget.tokens=3100000 {regime}"
    return Row(source, published, settings, "wikitext2/train.txt", "test", "ppl", readings=False, note="2x200, 1.5 passes")


ROWS = {
    "shakespeare_64": Row(
        "nanoGPT README, CPU setting: a transformer",
        "1.88, crops of 64 from zeros, about 3 min on a laptop",
        f"{SHAKESPEARE} model.hidden_size=384 model.dropout=0.2 regime.rotate=true evaluation.reset_every=64 "
        "budget.seconds=54",
        "tinyshakespeare/input.txt",
        note="the column reset is the strict comparison",
    ),
    "shakespeare_256": Row(
        "nanoGPT README, GPU setting: a transformer",
        "1.4697, crops of 256 from zeros, about 3 min on an A100",
        f"{SHAKESPEARE} model.hidden_size=384 model.dropout=0.3 model.variational=true optimizer=muon regime.rotate=true "
        "evaluation.reset_every=256 budget.seconds=240",
        "tinyshakespeare/input.txt",
        note="the column reset is the strict comparison",
    ),
    "jsb": Row(
        "Bai 2018, LSTM rows: 2x200",
        "8.45 per frame, test",
        "data=array data.path=DATA/polymusic/JSB_Chorales.npz model.dropout=0.3 budget.seconds=90",
        "polymusic/JSB_Chorales.npz",
        "test",
        readings=False,
    ),
    "nottingham": Row(
        "Bai 2018, LSTM rows: 1x500 or 3x280",
        "3.29 per frame, test",
        "data=array data.path=DATA/polymusic/Nottingham.npz model=lstm512 regime.streams=16 regime.bptt=64 "
        "model.dropout=0.4 optimizer.lr=0.003 budget.seconds=900",
        "polymusic/Nottingham.npz",
        "test",
        readings=False,
    ),
    "reber": Row(
        "Gers 2000, continual embedded Reber grammar",
        "99.7 % legal predictions; the entropy of the grammar is 0.4043",
        "data=reber budget.seconds=30",
        note="nats per symbol; the split is a sample, so its nll may be a little below the entropy",
    ),
    "names": Row(
        "none: 32,033 names, one a line",
        "",
        "data=lines data.path=DATA/names/names.txt model.dropout=0.1 budget.seconds=40",
        "names/names.txt",
        readings=False,
    ),
    "zaremba_small": Row(
        "TensorFlow's tutorial of Zaremba 2014, small",
        "valid 121.39, test 115.91",
        f"experiment=zaremba_small {PTB}",
        "ptb/ptb.train.txt",
        "test",
        "ppl",
        readings=False,
    ),
    "zaremba_medium": Row(
        "TensorFlow's tutorial of Zaremba 2014, medium",
        "valid 86.16, test 82.07",
        f"experiment=zaremba_medium {PTB}",
        "ptb/ptb.train.txt",
        "test",
        "ppl",
        readings=False,
    ),
    "wikitext2": Row(
        "GluonNLP, 2x200 tied, 750 epochs",
        "valid 108.17, test 102.49",
        f"{WIKITEXT} {SMALL} regime.streams=20 budget.seconds=3600",
        "wikitext2/train.txt",
        "test",
        "ppl",
        readings=False,
        note="about two epochs on two cores",
    ),
    "order_shuffled": of_order(
        "Kocher 2019, plain LSTM of 2x1150 until it converged: batches in random order, states carried all the same",
        "test 96.89",
        "regime=shuffled_carry",
    ),
    "order_carried": of_order("the same: in order, and carried", "test 93.15", "regime=stateful"),
    "order_offset": of_order(
        "the same: with seven offsets, one after the other; ours with another one in each pass",
        "test 92.77",
        "regime=stateful regime.rotate=true",
    ),
    "awd": Row(
        "AWD-LSTM (Merity 2017), 3x1150",
        "valid 68.6, test 65.8",
        f"experiment=awd {WIKITEXT} regime.streams=80 model.input_dropout=0.65 budget.seconds=3600",
        "wikitext2/train.txt",
        "test",
        "ppl",
        readings=False,
        note="as far as an hour goes; all layers have the size of the embedding; the published figure is after fine-tuning",
    ),
}


def folder_of_data() -> Path:
    return shakespeare.path().parents[1]


def run(name: str, seed: int) -> dict[str, Any]:
    """Train and evaluate from nothing; the figures by name."""
    row, began = ROWS[name], time.perf_counter()
    settings = shlex.split(row.settings.replace("DATA/", f"{folder_of_data()}/"))
    with tempfile.TemporaryDirectory() as outputs:
        command = ["src/train.py", *settings, f"seed={seed}", "logger=none", f"output_root={outputs}", "trainer.threads=2"]
        subprocess.run([OURS, *command], cwd=PROJECT, env=environment(OURS), check=True, stdout=sys.stderr)
        (summary,) = Path(outputs).glob("*/*/summary.json")
        found = json.loads(summary.read_text())
        figures = {key: value for key, value in found.items() if key.startswith(("val/", "test/"))}
        if row.readings:
            best = summary.parent / "checkpoints" / "best.ckpt"
            reset = next((part for part in settings if part.startswith("evaluation.reset_every")), None)
            asked = ["src/evaluate.py", f"checkpoint={best}", READINGS, f"split={row.split}", *([reset] if reset else [])]
            told = subprocess.run(
                [OURS, *asked], cwd=PROJECT, env=environment(OURS), check=True, stdout=subprocess.PIPE, text=True
            )
            lines = [line.split() for line in told.stdout.splitlines() if line.startswith(("val/", "test/"))]
            figures |= {line[0]: float(line[1]) for line in lines if len(line) == 2}
    return {
        "row": name,
        "seed": seed,
        "figures": figures,
        "tokens": found["tokens"],
        "seconds": round(time.perf_counter() - began),
        "machine": machine_and_torch(),
        "entropy": found["data"].get("entropy"),
    }


def latest() -> list[dict[str, Any]]:
    """The latest run of each row and seed."""
    return list({(each["row"], each["seed"]): each for each in kept(KEPT)}.values())


def page(runs: list[dict[str, Any]]) -> str:
    lines = [
        "# Beside published figures",
        "",
        "From `python -m benchmarks.reference ROW`, which runs a row from nothing. A figure is the mean over seeds ± half",
        "their range, in nats per step or as perplexity (ppl). Four ways to read the same network: with the state carried",
        "through the split, from zeros every R steps, with dynamic evaluation, and with a neural cache.",
        "",
        "| row | source | published | carried | reset | dynamic | cache | seeds | seconds each | tokens each |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in ROWS.items():
        own = [each for each in runs if each["row"] == name]
        cells, digits = [], 2 if row.unit == "ppl" else 4
        for suffix in ("", "_reset", "_dynamic", "_cache"):
            key = f"{row.split}/{row.unit}{suffix}"
            cells.append(shown([each["figures"][key] for each in own if key in each["figures"]], digits))
        last = [""] * 3
        if own:
            known = ([each[key] for each in own if each[key]] for key in ("seconds", "tokens"))
            last = [str(len(own)), *(f"{mean(values):,.0f}" if values else "" for values in known)]
        what = f"{row.source}" + (f" ({row.note})" if row.note else "")
        unit = f"{row.split}, {row.unit}"
        lines.append(f"| `{name}` ({unit}) | {what} | {row.published} | " + " | ".join([*cells, *last]) + " |")
    lines += [
        "",
        "A row without figures was not run here: its data were not there, or it takes too long.",
        "",
        "## Commands",
        "",
    ]
    lines += [f"- `{name}`: `python src/train.py {row.settings}`" for name, row in ROWS.items()]
    lines += ["", "## Machines", ""]
    for each in dict.fromkeys(each["machine"] for each in runs):
        rows = dict.fromkeys(e["row"] for e in runs if e["machine"] == each)
        lines.append(f"- {each}: {', '.join(f'`{name}`' for name in rows)}")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", choices=[*ROWS, []], metavar="ROW")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    chosen = parser.parse_args()
    if not chosen.rows:
        print(" ".join(ROWS))
        return
    for seed in chosen.seeds:
        for name in chosen.rows:
            needs, folder = ROWS[name].needs, folder_of_data()
            if needs and not (folder / needs).exists():
                sys.exit(f"{name}: {needs} is not in {folder}; set THROUGHLINE_DATA to the folder that has it")
            keep(KEPT, run(name, seed))
    (PROJECT / "benchmarks" / "REFERENCE.md").write_text(page(latest()))


if __name__ == "__main__":
    main()
