"""Rows on speed: compared with a bare loop, Keras, the code of the person who asked, and the machine itself."""

import itertools
import statistics

from benchmarks.measurements.duel import Duel, duel
from benchmarks.measurements.figures import Figure, Row
from benchmarks.measurements.programs import (
    Effort,
    fast_precision,
    own_line,
    peer,
    peers_needed,
    product,
    program,
    training_run,
)
from benchmarks.peers.shakespeare import path, read
from throughline.model.generator import Generator
from throughline.model.settings import LSTM


def bare(effort: Effort) -> list[Row]:
    """The whole product compared with a loop written by hand."""
    precision = fast_precision()
    ours, theirs = product(effort, f"trainer.precision={precision}"), peer(effort, "bare", "--precision", precision)
    steps = duel({"ours": ours, "bare": theirs}, effort.landings, effort.rounds + 2)
    setting = f"LSTM(256), 64 streams x 32 steps, {precision}, AdamW, clipping"
    steps.check_same_model("ours", "bare")
    rows = [
        Row(
            "bare loop: training steps",
            *rates(steps, "ours", "bare"),
            steps.ratio("ours", "bare"),
            at_least=0.97,
            note=f"{setting}. Slices of {effort.seconds:g} s in turns: of the whole product, `benchmarks/peers/product.py` "
            "(Lightning, callbacks, logging), and of `benchmarks/peers/bare.py`. Neither side validates.",
        )
    ]
    if effort.quick:
        rows.append(Row("bare loop: whole epochs", at_least=0.97, note="not in quick mode; an epoch has a million tokens"))
    else:
        epochs = duel({"ours": [*ours, "--epochs"], "bare": [*theirs, "--epochs"]}, effort.landings, 3)
        rows.append(
            Row(
                "bare loop: whole epochs",
                *rates(epochs, "ours", "bare"),
                epochs.ratio("ours", "bare"),
                at_least=0.97,
                note="The same, but a slice is an epoch and everything after it. On both sides this is a carried pass over "
                "the validation split in 64 rows, a pass with resets, and a checkpoint. The product does more there. Each "
                "of the 64 rows first reads 256 tokens unscored, in total 7 % more tokens of validation. Its checkpoint has "
                "a checksum and an fsync. It writes two checkpoints if the validation loss is the best so far.",
            )
        )
    pairs, ours_rates, bare_rates = [], [], []
    for _ in range(1 if effort.quick else 7):
        with training_run(f"budget.tokens={150_000 if effort.quick else 1_000_000}") as (summary, _):
            seconds = str(summary["seconds"])
        alone = own_line([*program("bare"), "--precision", precision, "--slices", "1", "--seconds", seconds])
        ours_rates.append(summary["tokens_per_second"])
        bare_rates.append(alone["tokens_per_second"])
        pairs.append(summary["tokens_per_second"] / alone["tokens_per_second"])
    rows.append(
        Row(
            "bare loop: runs of `src/train.py`",
            f"{statistics.median(ours_rates):,.0f} tokens/s",
            f"{statistics.median(bare_rates):,.0f} tokens/s",
            Figure.of([pairs]),
            at_least=0.97,
            note="Processes of `python src/train.py` and `python -m benchmarks.peers.bare`, one after the other. The speed "
            "of the product is that in `summary.json`, for training alone. Both are measured from their first step.",
        )
    )
    return rows


SHAPES = (
    (),
    ("trainer.precision=32-true",),
    ("model=lstm512",),
    ("model=gru256",),
    ("regime.streams=128",),
    ("regime.streams=32",),
    ("regime.streams=16",),
    ("model.dropout=0.2",),
    ("optimizer=muon", "model.hidden_size=320", "regime.bptt=64"),
)
"""Settings with which threads share the rows, or each product."""


def sharing(effort: Effort) -> list[Row]:
    """Threads that share the rows compared with threads that share each product."""
    rows = []
    for settings in SHAPES[:2] if effort.quick else SHAPES:
        sides = {name: product(effort, f"trainer.row_shares={n}", *settings) for name, n in (("rows", 2), ("products", 1))}
        measured = duel(sides, 1, effort.rounds)
        what = f"rows shared, not products: {' '.join(settings) or 'the default'}"
        note = "The whole product, with `trainer.row_shares=2` and 1."
        rows.append(Row(what, *rates(measured, "rows", "products"), measured.ratio("rows", "products"), note=note))
    return rows


def rates(measured: Duel, ours: str, theirs: str, unit: str = "tokens/s") -> tuple[str, str]:
    return f"{measured.rate(ours):,.0f} {unit}", f"{measured.rate(theirs):,.0f} {unit}"


Variants = dict[str, dict[str, list[tuple[str, ...]]]]
"""By backend and precision: the options of `keras_stateful.py` to try."""

VARIANTS: Variants = {
    "tensorflow": {
        "float32": [("--unroll",), ("--execution", "4"), ("--jit", "yes")],
        "mixed_bfloat16": [("--unroll",), ("--execution", "4"), ("--jit", "yes")],
    },
    "jax": {
        "float32": [(), ("--execution", "4")],
        "mixed_bfloat16": [(), ("--execution", "4")],
    },
    "torch": {"float32": [()], "mixed_bfloat16": [()]},
}
"""The promising ways to run Keras. Unrolled under a compiler, it compiles for minutes and is slower."""

QUICK_VARIANTS: Variants = {
    "tensorflow": {"float32": [("--unroll",)], "mixed_bfloat16": [("--execution", "4")]},
    "jax": {"float32": [()]},
}


def keras(effort: Effort) -> list[Row]:
    """Keras's own stateful LSTM; each side has its best settings."""
    if peers_needed():
        return [Row("Keras 3, stateful LSTM(256)", note=peers_needed())]
    streams = (128,) if effort.quick else (32, 64, 128, 256)
    tried = QUICK_VARIANTS if effort.quick else VARIANTS
    best: dict[tuple[str, str], tuple[float, list[str], str]] = {}  # by side and precision: rate, command, description

    def probe(side: str, precision: str, command: list[str], words: str) -> None:
        try:
            rate = own_line(command)["tokens_per_second"]
        except RuntimeError:
            if side == "ours":
                raise
            return  # Keras does not run with these options here
        best[side, precision] = max(best.get((side, precision), (0.0, [], "")), (rate, command, words))

    for count in streams:
        for precision in dict.fromkeys(("32-true", fast_precision())):
            chosen = product(effort, f"trainer.precision={precision}", f"regime.streams={count}", "regime.bptt=64")
            probe("ours", precision, chosen, f"{precision}, {count} streams")
        for backend, precisions in tried.items():
            for precision, variants in precisions.items():
                if effort.quick and precision == "mixed_bfloat16" and fast_precision() == "32-true":
                    continue  # emulated here, and never the fastest
                for variant in variants:
                    words = " ".join((f"{precision}, {count} streams", *variant))
                    options = ("--backend", backend, "--precision", precision, "--streams", str(count), *variant)
                    probe(backend, precision, peer(effort, "keras_stateful", *options), words)

    rows, measurements = [], {}
    for title, target, wanted in (
        ("float32", 1.5, ("32-true", "float32")),
        ("best precision", 2.5, (fast_precision(), "32-true", "mixed_bfloat16", "float32")),
    ):
        bests: dict[str, tuple[float, list[str], str]] = {}
        for side in ("ours", *tried):
            found = [best[side, precision] for precision in wanted if (side, precision) in best]
            if found:
                bests[side] = max(found)
        commands = {side: command for side, (_, command, _) in bests.items()}
        if str(commands) not in measurements:  # if nothing is faster than float32, both rows use one duel
            measurements[str(commands)] = duel(commands, effort.landings, effort.rounds)
        measured = measurements[str(commands)]
        for backend in tried:
            what = f"Keras on {backend}: {title}"
            if backend not in measured.slices:
                rows.append(Row(what, at_least=target, note=measured.failed.get(backend, "none of its settings ran")))
                continue
            measured.check_same_model("ours", backend, SECOND_BIAS)
            note = f"throughline {bests['ours'][2]}; Keras {bests[backend][2]}; each with the best of the settings tried"
            note += " (quick: few settings, only 128 streams)." if effort.quick else "."
            if title != "float32" and fast_precision() == "32-true":
                note += " On this processor no precision is faster than float32, so throughline uses float32 here."
            figure = measured.ratio("ours", backend)
            rows.append(Row(what, *rates(measured, "ours", backend), figure, at_least=target, note=note))
    return rows


SECOND_BIAS = 4 * 256
"""PyTorch's LSTM has two bias vectors, and Keras's has one. Only the sum of the two has an effect."""

ONESTEP = (
    "regime=onestep",
    "model.input=onehot",
    "optimizer=adam",
    "optimizer.lr=1e-3",
    "trainer.gradient_clip_val=null",
    "trainer.precision=32-true",
)


def onestep(effort: Effort) -> list[Row]:
    """The code of the person who asked, compared with `regime=onestep`."""
    if peers_needed():
        return [Row("the question's code, one step per batch", note=peers_needed())]
    commands = {"ours": product(effort, *ONESTEP)}
    for backend in ("tensorflow", "jax"):
        commands[f"{backend} fit"] = peer(effort, "asker", "--backend", backend)
        if not effort.quick:
            commands[f"{backend} batch"] = peer(effort, "asker", "--backend", backend, "--loop", "batch")
        options = ("--execution", "32", "--unroll", *(("--jit", "yes") if backend == "tensorflow" else ()))
        commands[f"{backend} tuned"] = peer(effort, "asker", "--backend", backend, *options)
    measured = duel(commands, effort.landings, effort.rounds)
    rows = []
    for backend, target in (("tensorflow", 3.0), ("jax", 1.0)):
        loops = [name for name in (f"{backend} fit", f"{backend} batch") if name in measured.slices]
        if not loops:
            rows.append(Row(f"the question's code on {backend}", at_least=target, note=measured.failed[f"{backend} fit"]))
            continue
        name = max(loops, key=measured.rate)
        measured.check_same_model("ours", name, SECOND_BIAS)
        figure = measured.ratio("ours", name)
        rows.append(
            Row(
                f"the question's code on {backend}",
                *rates(measured, "ours", name, "updates/s"),
                figure,
                at_least=target,
                note="LSTM(256), one-hot, Adam, one sample of one step per batch, `model.fit(batch_size=1, shuffle=False)`"
                + ("" if effort.quick else f" or `train_on_batch`: the faster of the two, here {name.split()[1]}")
                + f". Compared with `{' '.join(ONESTEP)}`.",
            )
        )
        tuned = f"{backend} tuned"
        if tuned not in measured.slices:
            continue
        rows.append(
            Row(
                f"the same, tuned, on {backend}",
                *rates(measured, "ours", tuned, "updates/s"),
                measured.ratio("ours", tuned),
                note="With options that the question does not set: `steps_per_execution=32`, `unroll=True`, compiled.",
            )
        )
    return rows


def utilisation(effort: Effort) -> list[Row]:
    """The share of the machine's matrix rate that the defaults use."""
    rows = []
    operations = Generator(LSTM(), read(path())[2]).operations()
    flops = operations.per_position - operations.less_per_row // 32  # per token, in rows of 32 steps
    for precision, target in (("32-true", 85.0), ("bf16-mixed", 70.0)):
        if precision not in ("32-true", fast_precision()):
            rows.append(Row(f"utilisation, {precision}", unit="%", at_least=target, note="not faster on this processor"))
            continue
        commands = {"ours": product(effort, f"trainer.precision={precision}")}
        sizes = (512, 2048) if effort.quick else (512, 1024, 2048, 4096)
        for library, size in itertools.product(("torch.mm", "oneDNN"), sizes):
            options = ("--precision", precision, "--library", library, "--size", str(size))
            commands[f"{size} x {size} matrices by {library}"] = peer(effort, "matmul", *options)
        own_shapes = {"own": peer(effort, "matmul", "--precision", precision, "--shapes", "step")}
        measured = duel(commands | own_shapes, effort.landings, effort.rounds)
        del commands["ours"]
        best = max(commands, key=measured.rate)
        plain = max((name for name in commands if name.endswith("torch.mm")), key=measured.rate)
        done = f"{measured.rate('ours') * flops / 1e9:,.0f} GFLOP/s"
        rows.append(
            Row(
                f"utilisation, {precision}",
                done,
                f"{measured.rate(best) / 1e9:,.0f} GFLOP/s",
                measured.ratio("ours", best).times(100 * flops),
                "%",
                at_least=target,
                note=f"The defaults at {measured.rate('ours'):,.0f} tokens/s and {flops:,} floating-point operations per "
                f"token, compared with the product of two {best}, the fastest of {len(commands)} tried. They reach "
                f"{measured.ratio('ours', plain).value * flops:.0%} of the rate of the product of two {plain}.",
            )
        )
        rows.append(
            Row(
                f"the same, of the step's own products, {precision}",
                done,
                f"{measured.rate('own') / 1e9:,.0f} GFLOP/s",
                measured.ratio("ours", "own").times(100 * flops),
                "%",
                note="Compared with the matrix products of a training step at their own shapes, with nothing between them. "
                "Where a time step waits for the previous one, a product has 64 rows. Each product uses the faster library. "
                f"They reach {measured.ratio('own', best).value:.0%} of the rate above. No step made of them can use more.",
            )
        )
    return rows


def processes(effort: Effort) -> list[Row]:
    """Two processes with one thread each, compared with one process with two threads."""
    what = "two processes on two cores"
    pairs, both, one = [], [], []
    for _ in range(1 if effort.quick else 5):
        budget = f"budget.tokens={100_000 if effort.quick else 1_000_000}"
        try:
            with training_run(budget, "trainer.devices=2") as (summary, _):
                both.append(summary["tokens_per_second"])
        except RuntimeError as error:
            return [Row(what, note=str(error))]
        with training_run(budget) as (summary, _):
            one.append(summary["tokens_per_second"])
        pairs.append(both[-1] / one[-1])
    words = (f"{statistics.median(both):,.0f} tokens/s", f"{statistics.median(one):,.0f} tokens/s in one process")
    return [Row(what, *words, Figure.of([pairs]), note="`trainer.devices=2` compared with one process with two threads.")]
