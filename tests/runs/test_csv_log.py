import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from throughline.evaluation.readings.carried import Carried
from throughline.evaluation.readings.reset import Reset
from throughline.plumbing.errors import UserError
from throughline.runs.csv_log import CSVLogger
from throughline.runs.curve import draw_curve
from throughline.runs.record import COLUMNS as OF_TRAINING
from throughline.runs.record import VALIDATION

COLUMNS = [*OF_TRAINING, *VALIDATION, *(f"{name}_reset" for name in VALIDATION)]
HEADER = ",".join(COLUMNS)


def logged(path: Path, *steps: int) -> CSVLogger:
    logger = CSVLogger(path)
    for step in steps:
        logger.log_metrics({"train/nll": 1 / step, "tokens": step * 8}, step)
    return logger


EMPTY = "," * (len(COLUMNS) - 6)
ROWS = [HEADER, f"5,,40,,,0.2{EMPTY}", f"10,,80,,,0.1{EMPTY}"]


def test_rows_go_through_a_checkpoint_and_later_ones_are_repeated(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    logger = logged(path, 5, 10)
    packed = logger.packed()
    logger.log_metrics({"val/nll": 0.5, "tokens": 80}, 10)  # of the same step, but after the checkpoint
    with path.open("a", encoding="utf-8") as file:
        file.write("12,0.5")  # torn
    again = CSVLogger(path, rows=CSVLogger.unpacked(packed))
    assert not again.restored
    assert path.read_text(encoding="utf-8").splitlines() == ROWS
    again.log_metrics({"val/nll": 0.25, "tokens": 88}, 11)
    assert path.read_text(encoding="utf-8").splitlines() == [
        *ROWS,
        f"11,,88{',' * (COLUMNS.index('val/nll') - 2)}0.25{',' * (len(COLUMNS) - 1 - COLUMNS.index('val/nll'))}",
    ]


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-3]),
        lambda path: path.write_bytes(path.read_bytes().replace(b"0.1", b"0.7")),
        lambda path: path.write_bytes(path.read_bytes().replace(b"5,,40", b"5,,40\n5,,40")),
        lambda path: path.write_bytes(b"\xff\x00"),
    ],
    ids=["emptied", "torn", "changed", "doubled", "other bytes"],
)
def test_a_damaged_file_is_restored_from_the_checkpoint(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    path = tmp_path / "metrics.csv"
    rows = CSVLogger.unpacked(logged(path, 5, 10).packed())
    damage(path)
    assert CSVLogger(path, rows=rows).restored
    assert path.read_text(encoding="utf-8").splitlines() == ROWS
    path.unlink()
    assert not CSVLogger(path, rows=rows).restored  # it is written as in another folder
    assert path.read_text(encoding="utf-8").splitlines() == ROWS


def test_a_file_that_is_removed_under_a_run_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "run" / "metrics.csv"
    logger = logged(path, 5)
    path.unlink()
    path.parent.rmdir()
    logger.log_metrics({"train/nll": 0.1, "tokens": 80}, 10)
    assert path.read_text(encoding="utf-8").splitlines() == ROWS


def test_rows_under_other_columns_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    CSVLogger(path, rows=b"tokens,step,former\n40,5,1.0\n")
    assert path.read_text(encoding="utf-8").splitlines() == [HEADER, "5,,40" + "," * (len(COLUMNS) - 3)]


@pytest.mark.parametrize(
    "rows",
    [torch.zeros(3, dtype=torch.uint8), torch.frombuffer(bytearray(zlib.compress(b"step\n"))[:-5], dtype=torch.uint8), None],
)
def test_rows_that_are_none_are_refused(rows: Any) -> None:
    with pytest.raises(UserError, match=r"^its rows of metrics "):
        CSVLogger.unpacked(rows)


def test_a_reading_that_is_read_on_the_way_has_columns_of_its_own(tmp_path: Path) -> None:
    class Own(Reset):
        pass

    assert CSVLogger(tmp_path / "metrics.csv", [Carried(), Own()]).columns == [
        *(*OF_TRAINING, *VALIDATION, "val/nll_own", "val/bpc_own", "val/ppl_own", "val/accuracy_own"),
    ]


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [{"train/nll": 2.0}],
        [{"val/nll": 2.0, "val/nll_reset": 2.1}],
        [{"train/nll": 2.0}, {"val/nll": 2.0, "val/nll_reset": 2.1}, {"train/nll": 1.0, "val/nll": 1.5}],
    ],
)
def test_the_curve_of_any_rows_is_drawn(tmp_path: Path, rows: list[dict[str, float]]) -> None:
    logger = CSVLogger(tmp_path / "metrics.csv")
    for step, row in enumerate(rows, start=1):
        logger.log_metrics({**row, "tokens": 8.0 * step, "seconds": 0.1 * step}, step)
    draw_curve(tmp_path / "metrics.csv", tmp_path / "curve.png", "a run")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_a_row_of_somebody_elses_callback_has_no_place_on_the_axes_and_is_left_out(tmp_path: Path) -> None:
    CSVLogger(tmp_path / "metrics.csv").log_metrics({"my/metric": 1.0}, 33)
    assert (tmp_path / "metrics.csv").read_text().splitlines() == [HEADER]
