import numpy as np
import pytest

from helpers import masked
from throughline.batches.batch import Batches
from throughline.data.line import Line
from throughline.regimes.padded import Padded

LINE = Line.of([np.array([1, 2, 3, 4]), np.array([5]), np.array([6, 7, 8])])  # 7 targets, ends 4, 5, 7


@pytest.mark.parametrize(
    ("padding", "inputs", "targets"),
    [
        ("post", [[5, 0, 0, 0], [6, 7, 0, 0], [1, 2, 3, 4]], [[6, None, None, None], [7, 8, None, None], [2, 3, 4, 5]]),
        ("pre", [[0, 0, 0, 5], [0, 0, 6, 7], [1, 2, 3, 4]], [[None, None, None, 6], [None, None, 7, 8], [2, 3, 4, 5]]),
    ],
)
def test_whole_sequences_padded_and_masked(padding: str, inputs: list[list[int]], targets: list[list[int | None]]) -> None:
    batches = Batches(Padded(batch_size=3, padding=padding).plan(LINE, seed=0, epoch=0), LINE)
    assert len(batches) == 1
    batch = batches[0]
    assert batch.inputs.tolist() == inputs  # sorted by length within the bucket
    assert masked(batch) == targets
    assert batch.reset.all()
    assert batch.n_valid == 7


def test_a_long_sequence_is_read_in_pieces() -> None:
    batches = Batches(Padded(batch_size=9, max_length=3).plan(LINE, seed=0, epoch=0), LINE)
    rows = [[i for i in row if i] for row in batches[0].inputs.tolist()]
    assert sorted(rows) == [[1, 2, 3], [4], [5], [6, 7]]


def test_buckets_hold_sequences_of_like_length() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, size=400)
    line = Line.of([np.ones(n, dtype=np.uint8) for n in lengths])

    def padding(bucket: int) -> float:
        batches = Batches(Padded(batch_size=8, max_length=100, bucket=bucket).plan(line, 0, 0), line)
        cells = sum(batches[k].targets.numel() for k in range(len(batches)))
        padded = sum(int((~batches[k].scored).sum()) for k in range(len(batches)))
        return padded / cells

    assert padding(bucket=50) < 0.05 < 0.3 < padding(bucket=1)
