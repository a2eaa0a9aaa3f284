import numpy as np
import pytest

from helpers import masked
from throughline.batches.batch import Batches
from throughline.data.line import Line
from throughline.plumbing.errors import UserError
from throughline.regimes.windowed import Windowed, Windows
from throughline.settings import checked

LINE = Line.of([np.frombuffer(b"abcdef", dtype=np.uint8)])


def windows(regime: Windowed) -> list[tuple[str, str]]:
    """Inputs and targets of each window, in the order of the line. Dots stand for padding and masked targets."""
    batches = Batches(regime.plan(LINE, seed=0, epoch=0), LINE)
    pairs = []
    for k in range(len(batches)):
        batch = batches[k]
        assert batch.reset.all()
        for inputs, targets in zip(batch.inputs.tolist(), masked(batch), strict=True):
            shown = "".join("." if t is None else chr(t) for t in targets)
            pairs.append(("".join(chr(i) for i in inputs if i), shown))
    return sorted(pairs, key=lambda pair: (pair[0][-1], pair))


def test_the_picture_in_the_docstring() -> None:
    regime = Windowed(steps=3, stride=1, batch_size=5, loss="last")
    assert windows(regime) == [("a", "b.."), ("ab", ".c."), ("abc", "..d"), ("bcd", "..e"), ("cde", "..f")]


def test_a_stride_scores_what_no_earlier_window_does() -> None:
    assert windows(Windowed(steps=3, stride=2, batch_size=9)) == [("ab", "bc."), ("bcd", ".de"), ("cde", "..f")]


def test_loss_on_all_steps() -> None:
    regime = Windowed(steps=3, stride=2, batch_size=9, loss="all")
    assert windows(regime) == [("ab", "bc."), ("bcd", "cde"), ("cde", "def")]


def test_a_stride_that_leaves_targets_out_is_refused() -> None:
    with pytest.raises(UserError, match="stride=4 leaves targets out: allowed is at most steps=3"):
        checked(Windowed, {"steps": 3, "stride": 4})


def test_memory_does_not_grow_with_the_window() -> None:
    line = Line.of([np.zeros(100_000, dtype=np.uint8)])
    plans = [Windowed(steps=steps, batch_size=1).plan(line, 0, 0) for steps in (10, 10_000)]
    sizes = [sum(v.nbytes for v in vars(p).values() if isinstance(v, np.ndarray)) for p in plans if isinstance(p, Windows)]
    assert sizes == [4 * 99_999] * 2  # only the shuffled order is stored
