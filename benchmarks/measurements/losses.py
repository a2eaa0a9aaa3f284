"""Rows on what is learned in a time."""

from benchmarks.measurements.figures import Row, once
from benchmarks.measurements.programs import Effort, fast_precision, own_line, peer, peers_needed, program, training_run
from benchmarks.peers.shakespeare import path, read

GOOD_RUNS = {
    "bf16-mixed": ("model.hidden_size=384", "model.dropout=0.2", "regime.rotate=true"),
    "32-true": ("regime.streams=32", "model.embedding_size=32", "optimizer.lr=0.006", "regime.rotate=true"),
}
"""Settings for the least loss within two or three minutes of two cores on tinyshakespeare, by the precision that is fast: in
bfloat16 ten epochs and more are read, which want a larger network and dropout; in float32 four, which want smaller steps."""


def asker_loss(effort: Effort) -> list[Row]:
    """How long throughline takes to the loss that the asker's code has after one pass."""
    what = "time to the asker's loss"
    if peers_needed():
        return [Row(f"{what} after one pass", at_least=300, note=peers_needed())]
    one_pass = len(read(path())[0]) - 1
    goals = [5_000] if effort.quick else [10_000, 30_000, 100_000, 300_000, one_pass]
    theirs = own_line([*program("asker"), "--backend", "jax", "--updates", *map(str, goals)])["points"]
    with training_run(*SHORT_RUN, f"budget.tokens={SHORT_RUN_TOKENS}") as (_, metrics):
        curve = [(float(row["seconds"]), float(row["val/nll"])) for row in metrics if row["val/nll"]]
    curve_words = ", ".join(f"{p['updates']:,} updates: {p['val_nll']:.4f} in {p['seconds']:.1f} s" for p in theirs)
    measured_note = (
        f"Measured on JAX, its faster backend: {curve_words} (training alone, compiling not counted; carried validation). "
        f"Ours: the first of the validations every 10 batches, in a run of `{' '.join(SHORT_RUN)} "
        f"budget.tokens={SHORT_RUN_TOKENS}`, that is no worse; training seconds of `metrics.csv`."
    )
    last = theirs[-1]
    reached = next((seconds for seconds, nll in curve if nll <= last["val_nll"]), None)
    if reached is None:
        return [Row(what, note=f"not reached: best {min(nll for _, nll in curve):.4f}. {measured_note}", at_least=300)]
    whole = last["updates"] == one_pass
    after = "one pass" if whole else f"{last['updates']:,} updates"
    rows = [
        Row(
            f"{what} after {after}, JAX",
            f"{reached:.2f} s to {last['val_nll']:.4f}",
            f"{last['seconds']:.1f} s",
            once(last["seconds"] / reached),
            at_least=300 if whole else None,
            note=measured_note,
        )
    ]
    tensorflow = own_line(peer(effort, "asker", "--backend", "tensorflow"))["tokens_per_second"]
    rows.append(
        Row(
            f"{what} after {after}, TensorFlow",
            f"{reached:.2f} s to {last['val_nll']:.4f}",
            f"{last['updates'] / tensorflow:,.0f} s, extrapolated",
            once(last["updates"] / tensorflow / reached),
            at_least=300 if whole else None,
            note=f"The peer's time is extrapolated: {last['updates']:,} updates at {tensorflow:,.0f} updates/s, measured "
            f"over {effort.seconds:g} s. The loss is that of the same updates on JAX: the same algorithm, other rounding.",
        )
    )
    return rows


SHORT_RUN_TOKENS = 600_000
SHORT_RUN = ("model.input=onehot", "trainer.val_check_interval=10", "trainer.log_every_n_steps=10")


def transformer(effort: Effort) -> list[Row]:
    """nanoGPT's CPU setting, and what throughline reaches in the same time."""
    steps, good_run = 100 if effort.quick else 2000, GOOD_RUNS[fast_precision()]
    theirs = own_line([*program("transformer"), "--steps", str(steps)])
    with training_run(f"budget.seconds={theirs['seconds']}", "evaluation.reset_every=64", *good_run) as (summary, _):
        carried, reset = summary["val/nll"], summary["val/nll_reset"]
    peer_words = f"{theirs['val_nll']:.4f} in {theirs['seconds']:.0f} s"
    cut = f" Quick: {steps} steps instead of 2000, so without targets." if effort.quick else ""
    note = (
        f"`python -m benchmarks.peers.transformer --steps {steps}`, {theirs['parameters']:,} parameters, scored on crops of "
        f"64 from zero context; then `{' '.join(good_run)} budget.seconds={theirs['seconds']:.1f}`, "
        f"{summary['parameters']:,} parameters.{cut}"
    )
    return [
        Row(
            "the time of nanoGPT's CPU setting: carried",
            f"{carried:.4f}",
            peer_words,
            once(carried),
            "nats",
            at_most=None if effort.quick else 1.48,
            note=note,
        ),
        Row(
            "the same: crops of 64 from zero context",
            f"{reset:.4f}",
            peer_words,
            once(reset),
            "nats",
            at_most=None if effort.quick else 1.60,
        ),
    ]


GOAL, LIMIT = 1.4697, 180


def goal(effort: Effort) -> list[Row]:
    """Seconds to the loss of nanoGPT's GPU setting, carried."""
    what = f"seconds to carried val nll {GOAL}"
    if effort.quick:
        return [Row(what, at_most=LIMIT, unit="s", note="not in quick mode: it takes three minutes")]
    good_run = GOOD_RUNS[fast_precision()]
    with training_run(f"budget.seconds={LIMIT - 2}", "trainer.val_check_interval=200", *good_run) as (summary, metrics):
        points = [(float(row["seconds"]), float(row["val/nll"])) for row in metrics if row["val/nll"]]
    reached = next((seconds for seconds, nll in points if nll <= GOAL), None)
    words = f"{summary['val/nll']:.4f} after {summary['seconds']:.0f} s"
    note = f"`{' '.join(good_run)} budget.seconds={LIMIT - 2}`; seconds of training, validation not counted."
    return [
        Row(what, words, "", once(reached), "s", at_most=LIMIT, note=note)
        if reached
        else Row(what, words, unit="s", at_most=LIMIT, note=f"Not reached. {note}")
    ]
