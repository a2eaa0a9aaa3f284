"""Uses of details that Lightning and PyTorch do not promise to keep, each with the test that notices a change.

Two are beside their only use: oneDNN's packed product in `throughline.model.cores.lstm_stepper`, and the moving average in
`throughline.training.extras`.
"""

import inspect
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.profilers import Profiler

F = TypeVar("F", bound=Callable[..., Any])


class QuickNotes:
    """Lets Lightning note its current hook in a tenth of the time; it does this some twenty times per step.

    Otherwise a module searches its parameters, buffers and modules whenever an attribute is set.
    Noticed by `test_lightning_notes_the_hook_that_it_is_in`.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)


def with_signature(step: F) -> F:
    """Keep the signature of a training step: Lightning asks for it at each step, and that takes longer than any hook.

    Noticed by `test_the_signature_of_a_step_is_kept`.
    """
    step.__signature__ = inspect.signature(step)  # type: ignore[attr-defined]
    return step


def validate_next(trainer: Trainer, now: bool) -> None:
    """Let the Trainer validate after this batch, or not.

    Noticed by `test_validations_over_a_budget_are_closer_at_its_beginning`.
    """
    trainer.val_check_batch = 1 if now else sys.maxsize


def count_batches(trainer: Trainer, batches: int) -> None:
    """Set the Trainer's number of batches trained on: it counts validation intervals only by the batches that it has seen.

    Noticed by `test_a_killed_run_goes_on_bit_for_bit`.
    """
    trainer.fit_loop.epoch_loop.batch_progress.total.ready = batches


def count_updates(trainer: Trainer, updates: int) -> None:
    """Set `trainer.global_step`: the Trainer counts no updates that bypass its wrapper of the optimizer.

    A `ModelCheckpoint` saves nothing while this is 0. Noticed by `test_model_checkpoint_saves_files_that_can_be_used`.
    """
    trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress.total.completed = updates


def validate_now(trainer: Trainer) -> None:
    """Make the validation that an earlier part of the run was ended in, before the first batch.

    Noticed by `test_a_validation_that_was_ended_is_made_again`.
    """
    trainer.validating = True  # chooses the loop
    trainer.fit_loop.epoch_loop.val_loop.run()
    trainer.training = True


def leave_signals_alone(trainer: Trainer) -> None:
    """Keep the Trainer from installing its own handlers: `throughline.plumbing.stopping` decides what a signal does.

    Its handler of SIGTERM ends a run with status 0. Noticed by `test_a_trainer_installs_no_handler`.
    """
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]


class DataWait(Profiler):
    """Adds up the time in which training waited for its next batch: Lightning calls its profiler at each fetch.

    Noticed by `test_a_run_logs_its_share_of_the_matrix_rate`.
    """

    FETCH = "[_TrainingEpochLoop].train_dataloader_next"

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0
        self._since = 0.0

    def profile(self, action_name: str) -> AbstractContextManager[Any]:  # type: ignore[override]
        """A context that does nothing: Lightning enters some fifty per step, but reports fetches by `start` and `stop`."""
        return nullcontext()

    def start(self, action_name: str) -> None:
        if action_name == self.FETCH:
            self._since = time.perf_counter()

    def stop(self, action_name: str) -> None:
        if action_name == self.FETCH:
            self.seconds += time.perf_counter() - self._since


def in_all_threads() -> dict[str, Any]:
    """What makes PyTorch's profiler see all threads of this process, if it can.

    Noticed by `test_the_profiler_sees_the_threads_of_rows`.
    """
    try:
        return {"experimental_config": torch._C._profiler._ExperimentalConfig(profile_all_threads=True)}
    except TypeError:  # an older PyTorch
        return {}


def adam_kernel(decoupled_weight_decay: bool) -> Callable[..., None]:
    """What an update of Adam or AdamW is in the end, after the optimizer has looked up and sorted the tensors.

    Noticed by `test_updates_are_exact_and_those_of_adam_take_the_short_way`.
    """
    return torch._fused_adamw_ if decoupled_weight_decay else torch._fused_adam_


def onednn_multiplies(precision: str) -> bool:
    """Whether oneDNN multiplies matrices in this precision here.

    Noticed by `test_the_matrix_rate_is_that_of_the_fastest_product`.
    """
    if precision == "bf16-mixed":  # not on every CPU
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return precision == "32-true" and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
