"""The result of a measurement: a median with its spread, and a row that compares it with a target."""

import statistics
from dataclasses import dataclass
from typing import Any

UNITS = {"x": "{:.2f} x", "s": "{:.2f} s", "%": "{:.1f} %", "nats": "{:.4f}", "/s": "{:,.0f} /s"}


@dataclass(frozen=True)
class Figure:
    """A median and its spread."""

    value: float
    low: float
    high: float
    repeats: str

    @classmethod
    def of(cls, landings: list[list[float]]) -> "Figure":
        """From the repeats of one or several landings."""
        everything = [value for landing in landings for value in landing]
        spread = [statistics.median(landing) for landing in landings] if len(landings) > 1 else everything
        repeats = f"{len(everything)} in {len(landings)} landings" if len(landings) > 1 else f"{len(everything)}"
        return cls(statistics.median(everything), min(spread), max(spread), repeats)

    def times(self, factor: float) -> "Figure":
        """The same result in another unit."""
        return Figure(self.value * factor, self.low * factor, self.high * factor, self.repeats)


def once(value: float) -> Figure:
    """The result of a single measurement."""
    return Figure(value, value, value, "1")


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what: the measured quantity.
        ours, theirs: the two sides in their own units.
        figure: the result that is compared with the target; None if it was not measured.
        unit: one of `UNITS`.
        at_least, at_most: the target, if there is one.
        note: how it was measured, or why it was not.
        quick: whether it was measured with few repeats.
    """

    what: str
    ours: str = ""
    theirs: str = ""
    figure: Figure | None = None
    unit: str = "x"
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""
    quick: bool = False

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> "Row":
        figure = plain.pop("figure")
        return cls(**plain, figure=figure and Figure(**figure))

    def show(self, value: float) -> str:
        return UNITS[self.unit].format(value)

    @property
    def target(self) -> str:
        if self.at_least is not None:
            return f">= {self.show(self.at_least)}"
        return "" if self.at_most is None else f"<= {self.show(self.at_most)}"

    @property
    def met(self) -> str:
        """Whether the target is met. If not, also the percentage of the target by which the result misses it."""
        if self.figure is None or not self.target:
            return ""
        if self.at_least is not None:
            short = 1 - self.figure.value / self.at_least
        else:
            assert self.at_most is not None
            short = self.figure.value / self.at_most - 1 if self.at_most else self.figure.value
        return "yes" if short <= 0 else f"no, by {short:.1%}"
