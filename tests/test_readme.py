"""What the README shows is what the program does."""

import re

import numpy as np

from helpers import PROJECT, masked
from throughline.batches.batch import Batches
from throughline.data.line import Line
from throughline.regimes import Regime
from throughline.regimes.onestep import Onestep
from throughline.regimes.padded import Padded
from throughline.regimes.segments import Segments
from throughline.regimes.stateful import Stateful
from throughline.regimes.windowed import Windowed

TEXT = "to be or not."
PICTURED: dict[str, Regime] = {
    "stateful": Stateful(streams=3, bptt=2, reset_probability=0.0),
    "onestep": Onestep(updates=1),
    "segments": Segments(steps=2, batch_size=3),
    "windowed": Windowed(steps=2, stride=1, batch_size=3),
    "padded": Padded(batch_size=2),
}


def picture(regime: Regime) -> list[str]:
    """The first two batches, each row as inputs>targets; `_` is padding or no loss, `*` a row that starts from zeros."""
    sequences = [np.frombuffer(word, dtype=np.uint8) for word in (b"to ", b"be ", b"or ", b"not.")]
    line = Line.of(sequences)
    batches = Batches(regime.plan(line, seed=0, epoch=0), line)
    columns = []
    for k in range(min(2, len(batches))):
        batch = batches[k]
        columns.append(
            [
                ("*" if reset else " ") + show(inputs) + ">" + show(targets)
                for inputs, targets, reset in zip(batch.inputs.tolist(), masked(batch), batch.reset.tolist(), strict=True)
            ]
        )
    return ["  ".join(rows).rstrip() for rows in zip(*columns, strict=True)]


def show(ids: list[int] | list[int | None]) -> str:
    return "".join("_" if not id else chr(id).replace(" ", "·") for id in ids)


def test_the_picture_of_the_regimes() -> None:
    readme = (PROJECT / "README.md").read_text()
    for name, regime in PICTURED.items():
        match = re.search(rf"^{name}\n((?:    .+\n)+)", readme, re.MULTILINE)
        assert match, name
        assert [line[4:].rstrip() for line in match[1].splitlines()] == picture(regime)


def test_every_test_that_the_pages_name_is_there() -> None:
    named = {name for page in (PROJECT / "docs").glob("*.md") for name in re.findall(r"tests/[\w/]+\.py", page.read_text())}
    assert len(named) > 10
    assert sorted(name for name in named if not (PROJECT / name).exists()) == []
