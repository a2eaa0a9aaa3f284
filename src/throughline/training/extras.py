"""The callbacks that the settings of a run add."""

import gzip
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from throughline import callbacks as settings
from throughline.runs.checkpoint import PREFIX
from throughline.runs.csv_log import CSVLogger
from throughline.training.internals import in_all_threads
from throughline.training.learner import Learner
from throughline.training.spending import Spending


def built(chosen: list[settings.Callback], folder: Path, spending: Spending) -> Iterator[Callback]:
    """The callbacks with these settings."""
    for each in chosen:
        match each:
            case settings.EarlyStopping(patience, min_delta):
                yield EarlyStopping("val/nll", min_delta, patience, check_on_train_epoch_end=False)
            case settings.Ema(decay):
                yield Averaging(spending, 0.0, ema(decay))
            case settings.Swa(start):
                yield Averaging(spending, start, None)
            case settings.NtAsgd(patience):
                yield NonMonotonic(spending, patience)
            case settings.LrMonitor():
                yield LrMonitor(spending)
            case settings.Profile(wait, active):
                yield Profile(folder, wait, active)
            case _:
                raise TypeError(f"no callback is built from {each}")


def ema(decay: float) -> Callable[[list[Tensor], list[Tensor], Tensor | int], None]:
    """An exponential moving average that is the mean at first, so that it soon forgets where the run began."""

    @torch.no_grad()
    def update(average: list[Tensor], own: list[Tensor], updates: Tensor | int) -> None:
        torch._foreach_lerp_(average, own, 1 - min(decay, float(updates) / (float(updates) + 1)))

    return update


class AtUpdates(Callback):
    """Does something after each update, not after each batch.

    Args:
        spending: what the run has spent.
    """

    def __init__(self, spending: Spending) -> None:
        self.spending = spending
        self._updates = 0

    def on_update(self, trainer: Trainer, learner: Learner) -> None:
        raise NotImplementedError

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, Learner)
        self._updates = pl_module.updates

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        assert isinstance(pl_module, Learner)
        if pl_module.updates > self._updates:
            self._updates = pl_module.updates
            self.on_update(trainer, pl_module)


class Averaging(AtUpdates):
    """Keeps an average of the weights, with which validations, checkpoints and the end of the run are made.

    The optimizer goes on with its own weights, which a checkpoint keeps beside the average.

    Args:
        spending: what the run has spent.
        start: the share of the budget after which averaging begins.
        multi_avg_fn: how weights are averaged (see `torch.optim.swa_utils`); None is their mean.
    """

    def __init__(self, spending: Spending, start: float, multi_avg_fn: Any) -> None:
        super().__init__(spending)
        self.start, self.multi_avg_fn = start, multi_avg_fn
        self.average: AveragedModel | None = None
        self._own: dict[str, Tensor] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        if self.average is not None:  # it was read before the model was moved to its device
            self.average.to(pl_module.device)

    def begun(self, trainer: Trainer) -> bool:
        """Whether updates are averaged now."""
        return self.spending.spent(trainer) >= self.start

    def on_update(self, trainer: Trainer, learner: Learner) -> None:
        if self.begun(trainer):
            self._averaged(learner).update_parameters(learner.generator)
        else:
            self.average = None  # of a run with a smaller budget, which this one continues

    def _averaged(self, learner: Learner) -> AveragedModel:
        if self.average is None:
            self.average = AveragedModel(learner.generator, multi_avg_fn=self.multi_avg_fn)
        return self.average

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._show(pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, Learner)
        if self._own:
            pl_module.generator.load_state_dict(self._own)
            self._own = {}

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._show(pl_module)

    def _show(self, learner: LightningModule) -> None:
        """Put the average in the place of the weights."""
        assert isinstance(learner, Learner)
        if self.average is not None:
            self._own = _copied(learner.generator.state_dict())
            learner.generator.load_state_dict(self.average.module.state_dict())

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        assert isinstance(pl_module, Learner)
        if self.average is None:
            return  # the checkpoint holds the weights themselves
        own = self._own or _copied(pl_module.generator.state_dict())
        average = self.average.module.state_dict()
        checkpoint["state_dict"].update({f"{PREFIX}{key}": value for key, value in average.items()})
        own_state = checkpoint["callbacks"].get(self.state_key) or {}
        checkpoint["callbacks"][self.state_key] = {**own_state, "own": own, "averaged": int(self.average.n_averaged)}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        assert isinstance(pl_module, Learner)
        state = checkpoint["callbacks"].get(self.state_key) or {}
        if "averaged" in state:
            average = self._averaged(pl_module)  # the weights of the checkpoint
            average.n_averaged.fill_(state["averaged"])
            pl_module.generator.load_state_dict(state["own"])


class NonMonotonic(Averaging):
    """Averages from the validation on at which the nll is above the lowest but the last `patience` ones.

    Args:
        spending: what the run has spent.
        patience: how many validations may pass without a new lowest nll.
    """

    def __init__(self, spending: Spending, patience: int) -> None:
        super().__init__(spending, 0.0, None)
        self.patience = patience
        self.nlls: list[float] = []
        self.triggered = False

    def begun(self, trainer: Trainer) -> bool:
        return self.triggered

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        assert isinstance(pl_module, Learner)
        nll, before = pl_module.metrics["val/nll"], self.nlls[: -self.patience]
        self.triggered = self.triggered or bool(before and nll > min(before))
        self.nlls.append(nll)

    def state_dict(self) -> dict[str, Any]:
        return {"nlls": torch.tensor(self.nlls, dtype=torch.float64), "triggered": self.triggered}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.nlls, self.triggered = state_dict["nlls"].tolist(), bool(state_dict["triggered"])


class LrMonitor(AtUpdates):
    """Logs the learning rate at every update, to all loggers but `metrics.csv`, whose rows are means over batches."""

    def on_update(self, trainer: Trainer, learner: Learner) -> None:
        row = {"train/lr": trainer.optimizers[0].param_groups[0]["lr"], "updates": learner.updates}
        row |= {"tokens": self.spending.tokens, "seconds": self.spending.seconds}
        for logger in trainer.loggers:
            if not isinstance(logger, CSVLogger):
                logger.log_metrics(row, step=self.spending.batches)


def _copied(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.detach().clone() for key, value in state.items()}


class Profile(Callback):
    """Writes what PyTorch's profiler finds in some batches of training.

    Args:
        folder: for `profile.txt` and `trace.json.gz`.
        wait, active: batches before, and those that are profiled.
    """

    def __init__(self, folder: Path, wait: int, active: int) -> None:
        self.folder, self.wait, self.active = folder, wait, active
        self.batches = 0
        self._profiler: Any = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if self.batches == self.wait and trainer.is_global_zero:
            self._profiler = torch.profiler.profile(record_shapes=True, **in_all_threads())
            self._profiler.start()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.batches += 1
        if self._profiler is not None and self.batches == self.wait + self.active:
            self._write()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write()

    def _write(self) -> None:
        if self._profiler is None:
            return
        profiler, self._profiler = self._profiler, None
        profiler.stop()
        by = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
        table = profiler.key_averages().table(sort_by=by, row_limit=30)
        (self.folder / "profile.txt").write_text(f"{self.batches - self.wait} batches\n{table}\n", encoding="utf-8")
        trace = self.folder / "trace.json"
        profiler.export_chrome_trace(str(trace))
        trace.with_suffix(".json.gz").write_bytes(gzip.compress(trace.read_bytes()))
        trace.unlink()
