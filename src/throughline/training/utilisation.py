"""How busy the device is: the operations per second that the model needs, divided by the measured rate of the device."""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer

from throughline.batches.batch import Batch
from throughline.plumbing import atomic
from throughline.training.internals import DataWait, onednn_multiplies
from throughline.training.learner import Learner

DTYPES = {"bf16-mixed": torch.bfloat16, "32-true": torch.float32, "64-true": torch.float64}
"""The number type of the multiplied matrices, by precision."""

MOST_OPERATIONS = 1e18
"""Operations per second that no device reaches today."""


def matrix_rate(device: torch.device, precision: str, seconds: float = 0.15) -> float:
    """Operations per second of the fastest square matrix product among those that fit in `seconds`.

    The fastest counts, because other work on the machine can only slow a product down. On a CPU, below float64, both of
    PyTorch's libraries are tried: oneDNN, which runs its LSTM, multiplies float32 twice as fast as MKL on some processors.
    On a GPU, float32 is multiplied in TF32, the default of cuDNN's LSTM.
    """
    n = 512 if device.type == "cpu" else 8192 if device.type == "cuda" else 2048  # fits a CPU's caches; fills a GPU
    a, b = torch.rand(2, n, n, device=device, dtype=DTYPES[precision])
    products: list[Callable[[], Any]] = [lambda: torch.mm(a, b)[0, 0].item()]  # `item` waits for the device
    if device.type == "cpu" and onednn_multiplies(precision):
        for_onednn = a.to_mkldnn(), b.to_mkldnn()
        products.append(lambda: F.linear(*for_onednn))
    before = torch.get_float32_matmul_precision()
    if device.type == "cuda" and torch.backends.cudnn.allow_tf32:
        torch.set_float32_matmul_precision("high")
    try:
        for product in products:
            product()  # the first call also prepares the product
        fastest, until = math.inf, time.perf_counter() + seconds
        while time.perf_counter() < until:
            for product in products:
                began = time.perf_counter()
                product()
                fastest = min(fastest, time.perf_counter() - began)
    finally:
        torch.set_float32_matmul_precision(before)
    return 2 * n**3 / fastest


def calibrated(file: Path, device: torch.device, precision: str, again: bool = False) -> float:
    """The fastest matrix rate measured on the device in a run; `file` keeps it for when the run is resumed.

    Args:
        again: measure even if `file` has a rate, and keep the faster one: a shared machine may have been slow before.
    """
    on = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    here = {"device": on, "precision": precision, "threads": torch.get_num_threads()}
    before = _known(file, here)
    if before and not again:
        return before
    rate = max(before, matrix_rate(device, precision))
    atomic.write({file: (json.dumps({**here, "flops_per_second": rate}, indent=2) + "\n").encode()})
    return rate


def _known(file: Path, here: dict[str, Any]) -> float:
    """The rate in `file`; 0 if it is not there, of other circumstances, or damaged: it can be measured again."""
    try:
        known = json.loads(file.read_bytes())
        rate = float(known["flops_per_second"])
        alike = {key: known[key] for key in here} == here
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return 0.0
    return rate if alike and 0 < rate < MOST_OPERATIONS else 0.0


class Work(NamedTuple):
    """The work of a model: positions read, operations needed, and the matrix rate to compare them with."""

    positions: int
    flops: int
    matrix_rate: float
    metrics: dict[str, float]


class Utilisation(Callback):
    """Counts the work of a run, and reports it as a share of the device's matrix rate.

    Attributes:
        positions: the steps of all rows that the model read in this process, B x T per batch.
        flops: the operations that the model needed for them.
        data_wait: the profiler for the Trainer.
        matrix_rate: the measured operations per second of the device.
    """

    def __init__(self, calibration: Path) -> None:
        self.calibration = calibration
        self.data_wait = DataWait()
        self.positions = self.flops = 0
        self.matrix_rate = math.nan
        self._begin_row()

    def _begin_row(self) -> None:
        self._flops_before, self._waited_before = self.flops, self.data_wait.seconds

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        assert isinstance(pl_module, Learner)
        self.operations = pl_module.generator.operations()
        self.device = trainer.strategy.root_device
        self.world_size = trainer.world_size
        if trainer.is_global_zero:  # only this process reports
            self.matrix_rate = calibrated(self.calibration, self.device, str(trainer.precision))
        self._asks_driver = self.device.type == "cuda"

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, Learner)
        positions = batch.scored.numel()
        self.positions += positions
        self.flops += (
            positions * self.operations.per_position - pl_module.rows_with_gradient(batch) * self.operations.less_per_row
        )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            self.matrix_rate = calibrated(self.calibration, self.device, str(trainer.precision), again=True)

    def row(self, seconds: float) -> dict[str, float]:
        """The metrics since the last call, `seconds` of training ago."""
        flops, waited = self.flops - self._flops_before, self.data_wait.seconds - self._waited_before
        self._begin_row()
        metrics = self._metrics(flops, waited, seconds)
        driver = self._driver()
        return metrics if driver is None else {**metrics, "device/driver_utilisation": driver}

    def whole(self, seconds: float) -> "Work":
        """The work of the whole run, after `seconds` of training; several processes share its positions evenly."""
        positions, flops = self.positions * self.world_size, self.flops * self.world_size
        return Work(positions, flops, self.matrix_rate, self._metrics(self.flops, self.data_wait.seconds, seconds))

    def _metrics(self, flops: int, waited: float, seconds: float) -> dict[str, float]:
        busy = flops / self.matrix_rate
        return {
            "device/utilisation": busy / seconds if seconds else math.nan,
            "device/data_wait": waited / seconds if seconds else math.nan,
        }

    def _driver(self) -> float | None:
        """The share of the last second in which NVIDIA's driver saw a kernel run, however little of the device it filled."""
        if self._asks_driver:
            try:
                return torch.cuda.utilization(self.device) / 100
            except Exception:  # there is no NVML, or it does not report this, as for a slice of a GPU
                self._asks_driver = False
        return None

    def state_dict(self) -> dict[str, Any]:
        return {
            "positions": self.positions,
            "flops": self.flops,
            "waited": self.data_wait.seconds,
            "flops_before": self._flops_before,
            "waited_before": self._waited_before,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.positions, self.flops = state_dict["positions"], state_dict["flops"]
        self.data_wait.seconds = state_dict["waited"]
        self._flops_before, self._waited_before = state_dict["flops_before"], state_dict["waited_before"]
