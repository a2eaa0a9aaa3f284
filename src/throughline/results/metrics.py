"""The numbers that are compared, each with its unit and how it was measured."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """A number that a run ends with: how it is written, which end of it is better, and how it was measured."""

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
        "Nats per token of the validation split, read once from beginning to end with the state carried, by the weights at "
        "the end of the run, in the precision that these have.",
    ),
    Metric(
        "val/nll_reset",
        "nll, reset",
        "{:.4f}".format,
        min,
        "The same with the state set to zeros every so many tokens: evaluation.reset_every, 256 by default.",
    ),
    Metric("val/bpc", "bpc", "{:.4f}".format, min, "Bits per character, or per event: the carried nll over the log of 2."),
    Metric(
        "tokens_per_second",
        "tokens/s",
        "{:,.0f}".format,
        max,
        "Targets trained on, over seconds of training; validation and checkpoints are not counted in these.",
    ),
    Metric(
        "device/utilisation",
        "utilisation",
        "{:.1%}".format,
        max,
        "Operations that the model needs for the positions it read, padding included, over seconds of training, over the "
        "rate of the fastest matrix product that the device was measured to do in the same precision, before the run or "
        "after it.",
    ),
    Metric(
        "device/data_wait",
        "data wait",
        "{:.1%}".format,
        min,
        "The share of the seconds of training in which the next batch was waited for.",
    ),
    Metric(
        "peak_memory_bytes",
        "peak memory (MiB)",
        lambda value: f"{value / 2**20:,.0f}",
        min,
        "The most memory that the process held, or on a GPU its tensors; libraries and data included, and in a sweep what "
        "the members before have left in it.",
    ),
    Metric(
        "updates",
        "updates",
        "{:,.0f}".format,
        None,
        "Steps of the optimizer; of onestep, one per token.",
    ),
    Metric(
        "seconds_to_worst",
        "seconds to the worst's nll",
        "{:,.3g}".format,
        min,
        "Seconds of training until the carried nll was as low as the one that the worst of all finished runs ended with, "
        "both by validations on the way: between two of them by a straight line, and where the first was that low already, "
        "its time, which may be too long. These may be of a part of the split, evaluation.tokens.",
    ),
    Metric(
        "cost",
        "cost",
        "{:,.1f}x".format,
        min,
        "That time, as a multiple of the shortest one in this table.",
    ),
)
AXES = {"seconds": "seconds of training", "tokens": "tokens trained on", "updates": "updates"}
"""Along which curves are drawn: columns of `metrics.csv`, with their titles."""
