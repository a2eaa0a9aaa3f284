"""Rows on the loss that is reached in a given time."""

from benchmarks.measurements.figures import Row, once
from benchmarks.measurements.programs import Effort, fast_precision, own_line, peer, peers_needed, program, training_run
from benchmarks.peers.shakespeare import path, read

GOOD_RUNS = {
    "bf16-mixed": ("model.hidden_size=384", "model.dropout=0.2", "regime.rotate=true"),
    "32-true": ("regime.streams=32", "model.embedding_size=32", "optimizer.lr=0.006", "regime.rotate=true"),
}
"""Settings for the lowest loss within two or three minutes on two cores with tinyshakespeare, by the precision that is fast.

In bfloat16, ten or more epochs are read, so a larger network and dropout help. In float32, four are read, so smaller steps
help."""


def asker_loss(effort: Effort) -> list[Row]:
    """How long throughline takes to reach the loss that the code of the person who asked has after one pass."""
    what = "time to the loss of the question's code"
    if peers_needed():
        return [Row(f"{what} after one pass", at_least=300, note=peers_needed())]
    one_pass = len(read(path())[0]) - 1
    goals = [5_000] if effort.quick else [10_000, 30_000, 100_000, 300_000, one_pass]
    theirs = own_line([*program("asker"), "--backend", "jax", "--updates", *map(str, goals)])["points"]
    with training_run(*SHORT_RUN, f"budget.tokens={SHORT_RUN_TOKENS}") as (_, metrics):
        curve = [(float(row["seconds"]), float(row["val/nll"])) for row in metrics if row["val/nll"]]
    curve_words = ", ".join(f"{p['updates']:,} updates: {p['val_nll']:.4f} in {p['seconds']:.1f} s" for p in theirs)
    measured_note = (
        f"Measured on JAX, its faster backend: {curve_words} (training alone, without compiling; carried validation). "
        f"throughline ran `{' '.join(SHORT_RUN)} budget.tokens={SHORT_RUN_TOKENS}`, with a validation every 10 batches. "
        "Its time is that of the first validation with a loss that is no higher, in training seconds of `metrics.csv`."
    )
    last = theirs[-1]
    reached = next((seconds for seconds, nll in curve if nll <= last["val_nll"]), None)
    if reached is None:
        return [Row(what, note=f"Not reached; best: {min(nll for _, nll in curve):.4f}. {measured_note}", at_least=300)]
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
            f"over {effort.seconds:g} s. The loss is that after the same updates on JAX. Only the rounding differs.",
        )
    )
    return rows


SHORT_RUN_TOKENS = 600_000
SHORT_RUN = ("model.input=onehot", "trainer.val_check_interval=10", "trainer.log_every_n_steps=10")


def transformer(effort: Effort) -> list[Row]:
    """nanoGPT's CPU setting, and the loss that throughline reaches in the same time."""
    steps, good_run = 100 if effort.quick else 2000, GOOD_RUNS[fast_precision()]
    theirs = own_line([*program("transformer"), "--steps", str(steps)])
    with training_run(f"budget.seconds={theirs['seconds']}", "evaluation.reset_every=64", *good_run) as (summary, _):
        carried, reset = summary["val/nll"], summary["val/nll_reset"]
    peer_words = f"{theirs['val_nll']:.4f} in {theirs['seconds']:.0f} s"
    cut = f" Quick: {steps} steps instead of 2000, so there are no targets." if effort.quick else ""
    note = (
        f"`python -m benchmarks.peers.transformer --steps {steps}` has {theirs['parameters']:,} parameters and is scored on "
        f"crops of 64 from zero context. Then `{' '.join(good_run)} budget.seconds={theirs['seconds']:.1f}` runs, with "
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
    """Seconds until the carried loss reaches that of nanoGPT's GPU setting."""
    what = f"seconds to carried val nll {GOAL}"
    if effort.quick:
        return [Row(what, at_most=LIMIT, unit="s", note="not in quick mode, because it takes three minutes")]
    good_run = GOOD_RUNS[fast_precision()]
    with training_run(f"budget.seconds={LIMIT - 2}", "trainer.val_check_interval=200", *good_run) as (summary, metrics):
        points = [(float(row["seconds"]), float(row["val/nll"])) for row in metrics if row["val/nll"]]
    reached = next((seconds for seconds, nll in points if nll <= GOAL), None)
    words = f"{summary['val/nll']:.4f} after {summary['seconds']:.0f} s"
    note = f"`{' '.join(good_run)} budget.seconds={LIMIT - 2}`. The seconds are those of training, without validation."
    return [
        Row(what, words, "", once(reached), "s", at_most=LIMIT, note=note)
        if reached
        else Row(what, words, unit="s", at_most=LIMIT, note=f"Not reached. {note}")
    ]
