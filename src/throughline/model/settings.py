"""What `model=` and `head=` may name: the sizes of a core and the kind of a head. `build` imports the rest, torch included.

A new core is one class here and its file in `cores/`; a user's own stands in a module of theirs, with a YAML that names it.
"""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Literal

from pydantic.dataclasses import dataclass

from throughline.settings import STRICT, PositiveInt, Probability, word

if TYPE_CHECKING:
    from torch import nn

    from throughline.model.cores import Core
    from throughline.model.heads import Head as HeadModule


@dataclass(frozen=True, config=STRICT)
class Model(ABC):
    """Sizes that every core has, under the names that PyTorch gives them; a subclass names the core and builds it."""

    hidden_size: PositiveInt = 256
    """Features of the state. Raise it with the amount of data and the time that you have."""
    num_layers: PositiveInt = 1
    """Recurrent layers, one on top of the other. A wider single layer learns faster in short runs."""
    input: Literal["embedding", "onehot"] = "embedding"
    """How a symbol enters. `onehot` has as many features as there are symbols; take it for a small vocabulary."""
    embedding_size: PositiveInt = 64
    """Features of the embedding. Raise it for large vocabularies."""
    dropout: Probability = 0.0
    """Between layers and after the last. Try 0.1 where training loss falls far below validation loss."""
    tie_weights: bool = False
    """Whether the head and the embedding share one matrix, which needs equal sizes (Press 2017)."""

    def __post_init__(self) -> None:
        if self.tie_weights and (self.input != "embedding" or self.embedding_size != self.hidden_size):
            raise ValueError(
                "tie_weights needs input=embedding and embedding_size equal to hidden_size "
                f"(here input={self.input}, {self.embedding_size} and {self.hidden_size})"
            )

    @property
    def name(self) -> str:
        return f"{word(type(self))}{self.hidden_size}" + (f"x{self.num_layers}" if self.num_layers > 1 else "")

    @abstractmethod
    def build(self, input_size: int) -> "Core":
        """The core, for inputs of `input_size` features."""

    def build_onehot(self, vocab_size: int) -> "tuple[nn.Module, Core]":
        """What reads one-hot input, and the core behind it."""
        from throughline.model.readers import OneHot

        return OneHot(vocab_size), self.build(vocab_size)


@dataclass(frozen=True, config=STRICT)
class LSTM(Model):
    """Long short-term memory (Hochreiter 1997) with forget gates (Gers 2000), as `torch.nn.LSTM` has it."""

    forget_bias: float = 0.0
    """The bias of the forget gates at the start. Take 1 where memory has to last before anything is learned
    (Jozefowicz 2015)."""

    def build(self, input_size: int) -> "Core":
        from throughline.model.cores.lstm import LSTMCore

        return LSTMCore(input_size, self.hidden_size, self.num_layers, self.dropout, self.forget_bias)

    def build_onehot(self, vocab_size: int) -> "tuple[nn.Module, Core]":
        from torch import nn

        from throughline.model.cores.onehot_lstm import OnehotLSTMCore

        sizes = vocab_size, self.hidden_size, self.num_layers
        return nn.Identity(), OnehotLSTMCore(*sizes, self.dropout, self.forget_bias)


@dataclass(frozen=True, config=STRICT)
class GRU(Model):
    """Gated recurrent units (Cho 2014), as `torch.nn.GRU` has them: three quarters of an LSTM's weights, one state."""

    def build(self, input_size: int) -> "Core":
        from throughline.model.cores.gru import GRUCore

        return GRUCore(input_size, self.hidden_size, self.num_layers, self.dropout)


@dataclass(frozen=True, config=STRICT)
class Head(ABC):
    """The settings of a head: what is predicted, and how it is scored."""

    @abstractmethod
    def build(self, input_size: int, vocab_size: int) -> "HeadModule":
        """The head, for a core's outputs of `input_size` features."""


@dataclass(frozen=True, config=STRICT)
class Categorical(Head):
    """One symbol of the vocabulary per step, by a softmax over all of them."""

    def build(self, input_size: int, vocab_size: int) -> "HeadModule":
        from throughline.model.heads.categorical import CategoricalHead

        return CategoricalHead(input_size, vocab_size)
