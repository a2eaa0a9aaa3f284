import csv
import os
from pathlib import Path

import pytest

from helpers import compared


@pytest.fixture
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a comparison, made once for all test modules that use it."""
    base = tmp_path_factory.getbasetemp()
    return compared(base.parent if "PYTEST_XDIST_WORKER" in os.environ else base)


@pytest.fixture
def sweep(report: Path) -> Path:
    return report.parent


@pytest.fixture
def table(report: Path) -> list[dict[str, str]]:
    with (report / "runs.csv").open(newline="") as file:
        return list(csv.DictReader(file))
