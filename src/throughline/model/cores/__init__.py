"""The recurrent part of a generator: one file per core; what is written by hand for the LSTM lies beside `lstm.py`.

A new core is a file here, its settings in `throughline.model.settings`, one YAML in `conf/model`, one line in
`tests/model/cores/test_every_core.py`.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from throughline.batches.carry import State
from throughline.model.heads import Head
from throughline.model.steps import SingleToken, Stepper


class Operations(NamedTuple):
    """Floating-point operations of training.

    Attributes:
        per_position: for each step of each row, forward and backward; padding and unscored steps count as well.
        less_per_row: saved for each row of a batch: its initial state needs no gradient.
    """

    per_position: int
    less_per_row: int


class Core(nn.Module, ABC):
    """Reads steps in order and carries a state; holds weights only.

    Attributes:
        state_names: of the tensors of a state, in their order.
        hidden_size, num_layers: H and L.
    """

    state_names: ClassVar[tuple[str, ...]]
    hidden_size: int
    num_layers: int

    @abstractmethod
    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Read T steps.

        Args:
            x: (T, B, E) what the reader makes of the ids.
            state: where the rows continue from, each tensor (L, B, ...); None is zeros.

        Returns:
            The output (T, B, H) of the last layer, and the state after the last step.
        """

    @abstractmethod
    def operations(self, input_size: int) -> Operations:
        """The operations that the core needs.

        A matrix of m x n weights takes 2mn operations forward and twice that backward: for the gradients of its input and
        of itself. The work that grows with H alone is left out, as is customary.

        Args:
            input_size: features whose product with a matrix is needed: E, or 0 where only a row is looked up.
        """

    def stepper(self, reader: nn.Module, head: Head, state: State, rows: int) -> Stepper | None:
        """A faster way to generate than to call the module for each step; None where there is none."""
        return None

    def single_token(self, reader: nn.Module, head: Head, dropout: float) -> SingleToken | None:
        """A faster way to differentiate one token than autograd; None where there is none."""
        return None

    def onnx_step(self, weights: dict[str, Any], x: str, state: tuple[str, ...]) -> "OnnxStep | None":
        """One step as nodes of an ONNX graph; None where nobody has written them.

        Args:
            weights: of the core as NumPy arrays in float32, by name.
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
        nodes: as `onnx.helper.make_node` gives them.
        constants: by name.
        output: the name of the output (1, B, H).
        state: the names of the tensors of the next state.
    """

    nodes: list[Any]
    constants: dict[str, Any]
    output: str
    state: tuple[str, ...]
