"""The numbers that are compared, each with its unit and how it was measured."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """A number at the end of a run: its format, its better direction, and how it was measured."""

    key: str
    heading: str
    show: Callable[[float], str]
    better: Callable[[Iterable[float]], float] | None
    how: str


METRICS = (
    Metric(
        "val/nll",
        "nll, carried",
        "{:.4f}".format,
        min,
        "Nats per token or frame of the validation split. The split is read once from beginning to end, with the state "
        "carried. The weights are those at the end of the run, in their own precision.",
    ),
    Metric(
        "val/nll_reset",
        "nll, reset",
        "{:.4f}".format,
        min,
        "The same, but with the state set to zeros every evaluation.reset_every tokens (256 by default).",
    ),
    Metric(
        "val/nll_after_first",
        "nll after the first",
        "{:.4f}".format,
        min,
        "The carried nll without the first frame of each sequence, which much published work does not predict.",
    ),
    Metric(
        "val/bpc",
        "bpc",
        "{:.4f}".format,
        min,
        "Bits per symbol, such as a character, a word or an event: the carried nll divided by the natural logarithm of 2.",
    ),
    Metric(
        "tokens_per_second",
        "tokens/s",
        "{:,.0f}".format,
        max,
        "Targets trained on, divided by seconds of training. Validation and checkpoints are not counted as training.",
    ),
    Metric(
        "device/utilisation",
        "utilisation",
        "{:.1%}".format,
        max,
        "The operations that the model needs for the positions it read, padding included, per second of training. They are "
        "divided by the matrix rate of the device: the fastest matrix product that was measured in the same precision, "
        "before the run or after it.",
    ),
    Metric(
        "device/data_wait",
        "data wait",
        "{:.1%}".format,
        min,
        "The share of the training time that was spent waiting for the next batch.",
    ),
    Metric(
        "peak_memory_bytes",
        "peak memory (MiB)",
        lambda value: f"{value / 2**20:,.0f}",
        min,
        "The most memory that the process held, with libraries and data, or on a GPU the most that its tensors held. In a "
        "sweep, this includes memory that the members before have left in the process.",
    ),
    Metric(
        "updates",
        "updates",
        "{:,.0f}".format,
        None,
        "Steps of the optimizer. onestep makes one per token.",
    ),
    Metric(
        "seconds_to_worst",
        "seconds to the worst nll",
        "{:,.3g}".format,
        min,
        "Seconds of training until the carried nll was as low as the final nll of the worst finished run. Both come from "
        "the validations during training, which may read only evaluation.tokens of the split. Between two validations the "
        "line is straight. If the first validation was already that low, its time is given, and this may be too long.",
    ),
    Metric(
        "cost",
        "cost",
        "{:,.1f}x".format,
        min,
        "The seconds to the worst nll, as a multiple of the shortest in this table.",
    ),
)
AXES = {"seconds": "seconds of training", "tokens": "tokens trained on", "updates": "updates"}
"""The axes along which curves are drawn: columns of `metrics.csv`, with their titles."""
