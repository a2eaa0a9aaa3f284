"""The recurrent part of a generator. One file per core; the code written by hand for the LSTM lies beside `lstm.py`.

A new core needs one file here, its settings in `throughline.model.settings`, one YAML in `conf/model`, and one line in
`tests/model/cores/test_every_core.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from throughline.batches.carry import State
from throughline.model.dropout import reads_some_rows
from throughline.model.heads import Head
from throughline.model.steps import SingleToken, Stepper


class Operations(NamedTuple):
    """Floating-point operations of training.

    Attributes:
        per_position: for each step of each row, forward and backward; padding and unscored steps count as well.
        less_per_row: operations saved per row of a batch: its initial state needs no gradient.
    """

    per_position: int
    less_per_row: int


CLOSED = -1e4
"""What closes a gate: its sigmoid is 0 in every precision."""


def layer_by_layer(core: Any, x: Tensor) -> bool:
    """Whether all layers must not be taken in one call, as `nn.LSTM` and `nn.GRU` make it.

    That call knows no dropped weights, no mask for all steps, and no mask for more rows than it reads. On a GPU it draws
    dropout between layers from a state of its own, which no seed reaches, so a resumed run would draw otherwise. And under
    autocast to bfloat16 it computes in float16 there, in which small gradients become zero.
    """
    by_mask = core.dropout > 0 and (core.variational or reads_some_rows())
    own = core.training and (core.weight_drop > 0 or by_mask)
    return own or (x.is_cuda and (torch.is_autocast_enabled("cuda") or (core.training and core.dropout > 0)))


def fused(
    kernel: Callable[..., tuple[Tensor, ...]], x: Tensor, state: Any, weights: Sequence[Tensor], training: bool
) -> tuple[Tensor, ...]:
    """Read steps with one layer of `torch.lstm` or `torch.gru`, in the number type of autocast also on a GPU."""
    options = True, 1, 0.0, training, False, False
    if not (x.is_cuda and torch.is_autocast_enabled("cuda")):
        return kernel(x, state, weights, *options)
    kind = torch.get_autocast_dtype("cuda")
    before = state.to(kind) if isinstance(state, Tensor) else [s.to(kind) for s in state]
    with torch.autocast("cuda", enabled=False):
        return kernel(x.to(kind), before, [weight.to(kind) for weight in weights], *options)


def with_feature(x: Tensor, restart: Tensor) -> Tensor:
    """The input (T, B, E) with a further feature that is 1 where `restart` (T, B), else 0."""
    return torch.cat([x, restart[..., None].to(x.dtype)], dim=-1)


class Core(nn.Module, ABC):
    """Reads steps in order, from one state to the next; holds weights only.

    Attributes:
        state_names: the names of the tensors of a state, in order.
        restarts: whether `forward` can start rows from zeros inside a batch.
        hidden_size, num_layers: H and L.
    """

    state_names: ClassVar[tuple[str, ...]]
    restarts: ClassVar[bool] = False
    hidden_size: int
    num_layers: int

    @abstractmethod
    def forward(self, x: Tensor, state: State | None = None, restart: Tensor | None = None) -> tuple[Tensor, State]:
        """Read T steps.

        Args:
            x: (T, B, E) the output of the reader.
            state: the state that the rows continue from, each tensor (L, B, ...); None is zeros.
            restart: (T, B) bool, steps after which the state of a row is zeros, and whose output does not count; None if
                there are none. A core without `restarts` need not have this argument.

        Returns:
            The output (T, B, H) of the last layer, and the state after the last step.
        """

    @abstractmethod
    def operations(self, input_size: int) -> Operations:
        """The operations that the core needs.

        A matrix of m x n weights takes 2mn operations forward. It takes twice that backward, for the gradients of its input
        and of itself. The work that grows with H alone is left out, as is customary.

        Args:
            input_size: number of input features that are multiplied by a matrix: E, or 0 if only a row is looked up.
        """

    def stepper(self, reader: nn.Module, head: Head, state: State, rows: int) -> Stepper | None:
        """A faster way to generate than one call of the module per step; None if there is none."""
        return None

    def single_token(self, reader: nn.Module, head: Head, dropout: float) -> SingleToken | None:
        """A faster way to differentiate one token than autograd; None if there is none."""
        return None

    def onnx_step(self, weights: dict[str, Any], x: str, state: tuple[str, ...]) -> "OnnxStep | None":
        """One step as nodes of an ONNX graph; None if they are not written for this core.

        Args:
            weights: the weights of the core by name, as NumPy arrays in float32.
            x: the name of the input (1, B, E).
            state: the names of the tensors of the state.
        """
        return None

    @property
    def name(self) -> str:
        return type(self).__name__.removesuffix("Core").lower()


class OnnxStep(NamedTuple):
    """The nodes and constants of one step in ONNX.

    Attributes:
        nodes: as returned by `onnx.helper.make_node`.
        constants: arrays by name.
        output: the name of the output (1, B, H).
        state: the names of the tensors of the next state.
    """

    nodes: list[Any]
    constants: dict[str, Any]
    output: str
    state: tuple[str, ...]
