from pathlib import Path

import pytest

from throughline.evaluation.readings.carried import Carried
from throughline.evaluation.readings.reset import Reset
from throughline.plumbing.errors import UserError
from throughline.runs.csv_log import CSVLogger
from throughline.runs.curve import draw_curve
from throughline.runs.record import COLUMNS as OF_TRAINING
from throughline.runs.record import VALIDATION

COLUMNS = [*OF_TRAINING, *VALIDATION, *(f"{name}_reset" for name in VALIDATION)]
HEADER = ",".join(COLUMNS)


def test_rows_up_to_the_checkpoint_are_kept_and_a_torn_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    logger = CSVLogger(path)
    for step in (5, 10, 15):
        logger.log_metrics({"train/nll": 1 / step, "tokens": step * 8}, step)
    with path.open("a") as file:
        file.write("10,0.5")
    CSVLogger(path, steps=10).log_metrics({"val/nll": 0.25, "tokens": 88}, 11)
    empty = "," * (len(COLUMNS) - 6)
    assert path.read_text().splitlines() == [
        HEADER,
        f"5,,40,,,0.2{empty}",
        f"10,,80,,,0.1{empty}",
        f"11,,88{',' * (COLUMNS.index('val/nll') - 2)}0.25{',' * (len(COLUMNS) - 1 - COLUMNS.index('val/nll'))}",
    ]


def test_rows_under_the_columns_of_another_version_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("tokens,step,former\n40,5,1.0\n")
    CSVLogger(path, steps=10)
    assert path.read_text().splitlines() == [HEADER, "5,,40" + "," * (len(COLUMNS) - 3)]


@pytest.mark.parametrize(
    "table", ["a,b\n1,2\n", "step,seconds\n5,x\n", "step,seconds\n5\n", "step\n5,1\n", "step\n\x00\n", "step\n1\r2\n"]
)
def test_a_damaged_file_is_named_and_left_as_it_is(tmp_path: Path, table: str) -> None:
    path = tmp_path / "metrics.csv"
    path.write_bytes(table.encode())
    with pytest.raises(UserError, match=r"metrics.csv: line \d is not a row of metrics; repair it, or move the file away"):
        CSVLogger(path, steps=10)
    assert path.read_bytes() == table.encode()
    CSVLogger(path)  # a run from the start
    assert path.read_text().splitlines() == [HEADER]


def test_a_reading_that_is_read_on_the_way_has_columns_of_its_own(tmp_path: Path) -> None:
    class Own(Reset):
        pass

    assert CSVLogger(tmp_path / "metrics.csv", 0, [Carried(), Own()]).columns == [
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
