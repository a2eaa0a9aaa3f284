"""Rows of figures, and the file in which people read them."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure as Drawing

from duel import Figure

UNITS = {"x": "{:.2f} x", "s": "{:.2f} s", "%": "{:.1f} %", "nats": "{:.4f}", "/s": "{:,.0f} /s"}


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what: is measured.
        ours, theirs: the two sides in their own units.
        figure: what is held against the target; None where it was not measured.
        unit: one of `UNITS`.
        at_least, at_most: the target, where there is one.
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
        """Whether the target is reached, or by how much of it the figure falls short."""
        if self.figure is None or not self.target:
            return ""
        if self.at_least is not None:
            short = 1 - self.figure.value / self.at_least
        else:
            assert self.at_most is not None
            short = self.figure.value / self.at_most - 1 if self.at_most else self.figure.value
        return "yes" if short <= 0 else f"no, by {short:.1%}"

    def cells(self) -> list[str]:
        what = f"{self.what} (quick)" if self.quick else self.what
        if self.figure is None:
            return [what, self.ours, self.theirs, "not measured", "", self.target, ""]
        spread = f"{self.show(self.figure.low)} to {self.show(self.figure.high)} ({self.figure.repeats})"
        spread = "" if self.figure.repeats == "1" else spread
        return [what, self.ours, self.theirs, self.show(self.figure.value), spread, self.target, self.met]


def once(value: float) -> Figure:
    """A figure that was measured a single time."""
    return Figure(value, value, value, "1")


def table(rows: list[Row]) -> str:
    head = ["what", "throughline", "peer", "figure", "spread (repeats)", "target", "met"]
    lines = [head, ["---"] * len(head), *(row.cells() for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def notes(rows: list[Row]) -> str:
    return "".join(f"- *{row.what}*: {row.note}\n" for row in rows if row.note)


def save(rows: list[Row], file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


def load(file: Path) -> list[Row]:
    return [Row.from_plain(plain) for plain in json.loads(file.read_text())]


def draw(rows: list[Row], picture: Path) -> None:
    """Every ratio with its spread, on one logarithmic axis; a stroke marks its target."""
    ratios = [row for row in reversed(rows) if row.figure is not None and row.unit == "x"]
    drawing = Drawing(figsize=(10, 0.8 + 0.42 * len(ratios)), layout="constrained")
    axes = drawing.subplots()
    for height, row in enumerate(ratios):
        figure = row.figure
        assert figure is not None
        axes.barh(height, figure.value - 1, left=1, height=0.55, color="tab:red" if row.met.startswith("no") else "tab:blue")
        axes.plot([figure.low, figure.high], [height, height], color="black", linewidth=1.5)
        if row.at_least is not None:
            axes.plot([row.at_least] * 2, [height - 0.42, height + 0.42], color="tab:orange", linewidth=3)
    axes.set_yticks(range(len(ratios)), [row.what for row in ratios])
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlabel("throughline against the peer, times; black: spread, orange: target")
    axes.grid(axis="x", alpha=0.3)
    drawing.savefig(picture, dpi=110)
