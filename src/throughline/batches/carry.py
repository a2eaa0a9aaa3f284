"""The state that is handed from batch to batch."""

import torch
from torch import Tensor

State = tuple[Tensor, ...]
"""The tensors that a core carries, each (L, B, ...). Rows are dimension 1 in every core. An LSTM carries `(h, c)`."""


class Carry:
    """The state that each stage continues from: one slot per stage, so validation can never change the state of training.

    A state is offered after its batch has been read. It counts only after the batch is committed.
    """

    def __init__(self) -> None:
        self.committed: dict[str, State] = {}
        self._pending: dict[str, State] = {}

    def begin(self, stage: str, reset: Tensor, from_noise: bool = False) -> State | None:
        """The state that a batch starts from: zeros where `reset` (B,), elsewhere the state after the previous batch.

        If there are fewer rows than before, the last rows have ended. With `from_noise`, the previous state only shapes a
        normal distribution from which the state of these rows is drawn, by PyTorch's own generator.
        """
        carried = self.committed.get(stage)
        if carried is None or carried[0].shape[1] < len(reset):
            if not reset.all():
                raise RuntimeError(f"{stage}: {len(reset)} rows, not all reset, have no carried state to continue from")
            return None
        if carried[0].shape[1] > len(reset):
            carried = tuple(s[:, : len(reset)] for s in carried)
        if from_noise:
            carried = tuple(_like(s.to(reset.device)) for s in carried)
        if reset.device.type == "cpu" and not reset.any():  # most batches; on a GPU this check would have to wait
            return carried
        # A state from a file is on the CPU.
        return tuple(torch.where(_by_row(reset, s), 0.0, s.to(reset.device)) for s in carried)

    def offer(self, stage: str, state: State) -> None:
        """Take the state after a batch, and cut off its graph."""
        self._pending[stage] = tuple(s.detach() for s in state)

    def commit(self, stage: str, bad_batch: bool = False) -> None:
        """Finish a batch: the next one continues from its state; after a bad batch, rows that are not finite become zeros.

        After a good batch nothing is checked. If a row's last step is scored and its loss is finite, the state after it is
        finite as well: an LSTM's c grows by at most 1 per step, and a nan in the state would be a nan in the prediction. In
        other rows the next loss shows a bad state.
        """
        state = self._pending.pop(stage)
        if bad_batch:
            sound = torch.stack([s.isfinite().reshape(*s.shape[:2], -1).all(dim=2).all(dim=0) for s in state]).all(
                dim=0
            )  # B
            state = tuple(torch.where(_by_row(sound, s), s, 0.0) for s in state)
        self.committed[stage] = state


def _like(state: Tensor) -> Tensor:
    """Noise with the mean and the std of each cell over the rows of a state (L, B, ...)."""
    # A state from a file lies in memory in another way, and in the precision of the weights; sums must be the same.
    state = state.to(torch.promote_types(state.dtype, torch.float32)).clone(memory_format=torch.contiguous_format)
    mean, std = state.mean(dim=1, keepdim=True), state.std(dim=1, keepdim=True, unbiased=False)
    return mean + std * torch.randn_like(state)


def _by_row(rows: Tensor, state: Tensor) -> Tensor:
    """Values per row (B,), in a shape that broadcasts over a state (L, B, ...)."""
    return rows.view(1, -1, *[1] * (state.dim() - 2))
