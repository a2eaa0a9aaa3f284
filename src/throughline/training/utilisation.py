"""How busy the device is: the arithmetic that the model needs each second, over what the device was measured to do."""

import json
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.profilers import Profiler

from throughline.batches.batch import Batch
from throughline.config import Model
from throughline.plumbing import atomic
from throughline.training.learner import Learner

DTYPES = {"bf16-mixed": torch.bfloat16, "32-true": torch.float32, "64-true": torch.float64}
"""What matrices are multiplied in, by precision."""


def flops_per_position(sizes: Model, vocab_size: int) -> int:
    """Floating-point operations to train on one position of a batch, padding and unscored ones being positions, too.

    A matrix of m x n weights takes 2mn operations forward and twice that backward: for the gradients of its input and of
    itself. There are (4H, input) and (4H, H) in each layer and (V, H) in the head. Looking a row up takes none, and neither
    does what a one-hot input multiplies by zero; the work that grows with H alone is left out, as is customary.
    """
    H = sizes.hidden_size  # noqa: N806
    first = 4 * H * sizes.embedding_size if sizes.input == "embedding" else 0
    weights = first + 4 * H * H * (2 * sizes.num_layers - 1) + vocab_size * H
    return 3 * 2 * weights


def flops_less_per_chain(sizes: Model) -> int:
    """What is less for each row of a batch, since the gradient of the state that its first step is given is not needed."""
    return 2 * 4 * sizes.hidden_size**2 * sizes.num_layers


def matrix_rate(device: torch.device, precision: str, seconds: float = 0.15) -> float:
    """Operations per second of the fastest of the square products that fit in `seconds`.

    The fastest, since whatever else the machine does can only slow one down. On a CPU, below float64, of either library that
    PyTorch has: oneDNN, where its LSTM is, multiplies float32 twice as fast as MKL on some processors. On a GPU float32 is
    multiplied as cuDNN's LSTM does it by default, in TF32.
    """
    n = 512 if device.type == "cpu" else 8192 if device.type == "cuda" else 2048  # in a CPU's caches; filling a GPU
    a, b = torch.rand(2, n, n, device=device, dtype=DTYPES[precision])
    products: list[Callable[[], Any]] = [lambda: torch.mm(a, b)[0, 0].item()]  # which waits for the device
    if device.type == "cpu" and _onednn_multiplies(precision):
        for_onednn = a.to_mkldnn(), b.to_mkldnn()
        products.append(lambda: F.linear(*for_onednn))
    before = torch.get_float32_matmul_precision()
    if device.type == "cuda" and torch.backends.cudnn.allow_tf32:
        torch.set_float32_matmul_precision("high")
    try:
        for product in products:
            product()  # the first of a kind is prepared for
        fastest, until = math.inf, time.perf_counter() + seconds
        while time.perf_counter() < until:
            for product in products:
                began = time.perf_counter()
                product()
                fastest = min(fastest, time.perf_counter() - began)
    finally:
        torch.set_float32_matmul_precision(before)
    return 2 * n**3 / fastest


def _onednn_multiplies(precision: str) -> bool:
    if precision == "bf16-mixed":  # not on every CPU
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return precision == "32-true" and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]


def calibrated(file: Path, device: torch.device, precision: str, again: bool = False) -> float:
    """The fastest matrix rate that the device was measured at in a run, whose `file` remembers it.

    Args:
        again: measure even if there is one: what was a slow moment of a shared machine then does not pass for the device.
    """
    on = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    here = {"device": on, "precision": precision, "threads": torch.get_num_threads()}
    known = json.loads(file.read_text()) if file.exists() else {}
    before = float(known["flops_per_second"]) if {key: known.get(key) for key in here} == here else 0.0
    if before and not again:
        return before
    rate = max(before, matrix_rate(device, precision))
    atomic.write({file: (json.dumps({**here, "flops_per_second": rate}, indent=2) + "\n").encode()})
    return rate


class DataWait(Profiler):
    """Adds up the time in which training waited for its next batch: Lightning tells its profiler when it fetches one."""

    FETCH = "[_TrainingEpochLoop].train_dataloader_next"

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0
        self._since = 0.0

    def profile(self, action_name: str) -> AbstractContextManager[Any]:  # type: ignore[override]
        """A context that does nothing: Lightning enters some fifty a step, but tells of fetches by `start` and `stop`."""
        return nullcontext()

    def start(self, action_name: str) -> None:
        if action_name == self.FETCH:
            self._since = time.perf_counter()

    def stop(self, action_name: str) -> None:
        if action_name == self.FETCH:
            self.seconds += time.perf_counter() - self._since


class Utilisation(Callback):
    """Counts the work done, and says what share of the device's matrix rate it came to.

    Attributes:
        positions: steps of rows that the model read in this process, B x T a batch.
        flops: what the model needed for them.
        data_wait: the profiler that the Trainer has to be given.
        matrix_rate: operations per second that the device was measured to do.
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
        sizes = pl_module.model.sizes
        self.flops_per_position = flops_per_position(sizes, pl_module.model.vocab_size)
        self.flops_less_per_chain = flops_less_per_chain(sizes)
        self.device = trainer.strategy.root_device
        self.world_size = trainer.world_size
        if trainer.is_global_zero:  # which alone reports
            self.matrix_rate = calibrated(self.calibration, self.device, str(trainer.precision))
        self._asks_driver = self.device.type == "cuda"

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, Learner)
        positions = batch.inputs.numel()
        self.positions += positions
        self.flops += positions * self.flops_per_position - pl_module.chains(batch) * self.flops_less_per_chain

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            self.matrix_rate = calibrated(self.calibration, self.device, str(trainer.precision), again=True)

    def row(self, seconds: float) -> dict[str, float]:
        """The figures since the last call, `seconds` of training ago."""
        flops, waited = self.flops - self._flops_before, self.data_wait.seconds - self._waited_before
        self._begin_row()
        figures = self._figures(flops, waited, seconds)
        driver = self._driver()
        return figures if driver is None else {**figures, "device/driver_utilisation": driver}

    def whole(self, seconds: float) -> dict[str, float]:
        """The figures of the whole run, `seconds` of training; several processes share its positions evenly."""
        return {
            **self._figures(self.flops, self.data_wait.seconds, seconds),
            "positions": self.positions * self.world_size,
            "flops": self.flops * self.world_size,
            "matrix_rate": self.matrix_rate,
        }

    def _figures(self, flops: int, waited: float, seconds: float) -> dict[str, float]:
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
            except Exception:  # no NVML, or one that will not say, as for a slice of a GPU
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
