"""A step as one CUDA graph: a GPU that gets hundreds of kernels one by one mostly waits for the CPU that launches them."""

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from throughline.batches.batch import Batch
from throughline.batches.carry import State
from throughline.config import Penalties
from throughline.model.generator import Generator
from throughline.training.step import read, total

WARM_UP = 3
"""Passes before the recording, as PyTorch asks for: libraries prepare themselves in the first ones."""


class RecordedStep:
    """Forward and backward of batches of one shape, recorded once, and replayed with other steps and states.

    The kernels are those of the step that is not recorded. For LSTM(256) with one step per batch, a replay takes 0.13 ms,
    and launching its kernels 2.5 ms; with 64 streams and 64 steps, 1.8 ms and 5.6 ms (on an H200).

    Args:
        generator: in training mode. Its gradients are None, and are None afterwards.
        batch: any batch of the shape.
        penalties: what is added to the loss.
    """

    def __init__(self, generator: Generator, batch: Batch, penalties: Penalties = Penalties()) -> None:  # noqa: B008  # frozen
        self.generator, self.penalties = generator, penalties
        self.parameters = [p for p in generator.parameters() if p.requires_grad]
        self._pointers = self._where()
        self._batch = batch.each(torch.clone)
        self._n_valid, self._divisor = (torch.ones((), device=batch.reset.device) for _ in range(2))
        self._zero = torch.zeros((), device=batch.reset.device)
        with torch.no_grad(), _uncached_autocast():
            _, after = generator.nll(batch.inputs, batch.targets, None, batch.restart)
        self._before: State = tuple(torch.zeros_like(s) for s in after)
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                self._step()
                self._forget()
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._nll, self._after, self._numbers = self._step()
        self._grads = [p.grad for p in self.parameters]
        self._forget()

    def _step(self) -> tuple[Tensor, State, Tensor]:
        batch = self._batch
        with _uncached_autocast():
            nll, penalty, after = read(self.generator, batch, self._before, self.penalties)
        nll = nll.masked_fill(~batch.scored, 0.0)
        nll_sum = nll.sum()
        with torch.autocast("cuda", enabled=False):
            (total(nll_sum, penalty, self._n_valid) / self._divisor).backward()  # type: ignore[no-untyped-call]
        norm = grad_norm([p.grad for p in self.parameters if p.grad is not None])
        return nll.detach(), tuple(s.detach() for s in after), torch.stack([norm, nll_sum.detach().to(norm)])

    def _forget(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def _where(self) -> list[int]:
        return [p.data_ptr() for p in self.parameters]

    @property
    def valid(self) -> bool:
        """Whether the weights still lie where they were recorded."""
        return self._where() == self._pointers

    def replay(self, batch: Batch, before: State | None, divisor: int) -> tuple[Tensor, State, Tensor]:
        """Read a batch from a state, and leave the gradients of its nll, divided by `divisor`, in the parameters.

        Returns:
            The nll (B, T), zero where nothing is scored; the state after; and (2,) the norm of the gradients and the sum of
            the nll.
        """
        for mine, given in zip(tensors(self._batch), tensors(batch), strict=True):
            mine.copy_(given, non_blocking=True)
        for own, state in zip(self._before, before or [self._zero] * len(self._before), strict=True):
            own.copy_(state)
        self._n_valid.fill_(float(batch.n_valid))
        self._divisor.fill_(float(divisor))
        self._graph.replay()
        for parameter, grad in zip(self.parameters, self._grads, strict=True):
            parameter.grad = grad
        # The next replay overwrites what it returns.
        return self._nll.clone(), tuple(s.clone() for s in self._after), self._numbers.clone()


def _uncached_autocast() -> torch.autocast:
    """Autocast as it is, but without its cache, whose copies of weights no replay would renew."""
    kind, enabled = torch.get_autocast_dtype("cuda"), torch.is_autocast_enabled("cuda")
    return torch.autocast("cuda", kind, enabled=enabled, cache_enabled=False)


class Recorder:
    """The recorded steps of a run, by shape.

    Args:
        generator: the generator to train.
        shape: (B, T) of the batches that are recorded. Batches of other shapes are rare, and a recording takes memory.
        penalties: what is added to the loss.
    """

    def __init__(
        self,
        generator: Generator,
        shape: tuple[int, int],
        penalties: Penalties = Penalties(),  # noqa: B008  # frozen
    ) -> None:
        self.generator = generator
        self.shape, self.penalties = shape, penalties
        self._steps: dict[bool, RecordedStep] = {}
        self._failed = False

    def step(self, batch: Batch) -> RecordedStep | None:
        """The recorded step for a batch; None if it has another shape or is read in parts, or nothing can be recorded."""
        if self._failed or batch.scored.shape != self.shape or batch.burn_in or batch.handed is not None:
            return None
        restarts = batch.restart is not None
        if restarts not in self._steps or not self._steps[restarts].valid:
            try:
                self._steps[restarts] = RecordedStep(self.generator, batch, self.penalties)
            except RuntimeError as error:  # some versions of CUDA cannot record some kernels; training goes on without
                self._failed = True
                self._steps.clear()
                self.generator.zero_grad()
                what = str(error).splitlines()[0]
                warnings.warn(f"steps could not be recorded as a CUDA graph, so they are slower: {what}", stacklevel=2)
                return None
        return self._steps[restarts]


def can_be_recorded(generator: nn.Module) -> bool:
    """Whether a generator is on a GPU, and has only modules of PyTorch and of this project; others may wait or branch."""
    return next(generator.parameters()).is_cuda and only_known_modules(generator)


def only_known_modules(generator: nn.Module) -> bool:
    """Whether a generator has only modules of PyTorch and of this project; others may keep something from call to call."""
    return all(type(module).__module__.split(".")[0] in ("torch", "throughline") for module in generator.modules())


def tensors(batch: Batch) -> list[Tensor]:
    return [part for part in batch if isinstance(part, Tensor)]


def grad_norm(grads: Sequence[Tensor]) -> Tensor:
    """The norm of all gradients together."""
    norm: Tensor = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(grad) for grad in grads]))
    return norm
