"""Ends a trial of a search that other trials have left behind."""

from collections.abc import Callable

from lightning.pytorch import Callback, LightningModule, Trainer

from throughline.plumbing.errors import PRUNED, Pruned
from throughline.training.learner import Learner


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
        if trainer.is_global_zero and (why := self.hopeless(self.checks, pl_module.metrics["val/nll"])):
            raise Pruned(f"{PRUNED}{why}")

    def state_dict(self) -> dict[str, int]:
        return {"checks": self.checks}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.checks = state_dict["checks"]
