"""Ends a trial of a search that other trials have left behind."""

from collections.abc import Callable
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from throughline.plumbing.errors import PRUNED, Pruned
from throughline.training.learner import Learner
from throughline.training.spending import spending_of


def _never(check: int, nll: float) -> str:
    return ""


class Pruning(Callback):
    """Asks after each validation whether the run goes on.

    Args:
        hopeless: gets the number of the validation and its nll, and returns why the run should end; empty if it should not.
    """

    def __init__(self, hopeless: Callable[[int, float], str]) -> None:
        self.hopeless = hopeless
        self.checks = 0

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, Learner)
        self.checks += 1
        if trainer.is_global_zero:
            with spending_of(trainer).paused():
                why = self.hopeless(self.checks, pl_module.metrics["val/nll"])
            if why:
                raise Pruned(f"{PRUNED}{why}")

    def __reduce__(self) -> tuple[Any, ...]:
        """In the other processes of a run, nothing is asked: the first one decides."""
        return Pruning, (_never,)

    def state_dict(self) -> dict[str, int]:
        return {"checks": self.checks}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.checks = state_dict["checks"]
