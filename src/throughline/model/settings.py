"""The settings of `model=` and `head=`: the sizes of a core and the kind of a head. `build` imports the rest, also torch.

A new core needs one class here and one file in `cores/`. A user's core needs a module of the user and a YAML that names it.
"""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic.dataclasses import dataclass

from throughline.settings import STRICT, Positive, PositiveInt, Probability, word

if TYPE_CHECKING:
    from torch import nn

    from throughline.model.cores import Core
    from throughline.model.heads import Head as HeadModule


@dataclass(frozen=True, config=STRICT)
class Model(ABC):
    """The sizes that every core has, under their names in PyTorch; a subclass names the core and builds it."""

    hidden_size: PositiveInt = 256
    """Features of the state. Raise it if you have more data and more time."""
    num_layers: PositiveInt = 1
    """Recurrent layers, one on top of the other. A wider single layer learns faster in short runs."""
    input: Literal["embedding", "onehot"] = "embedding"
    """How a symbol enters the core. `onehot` has one feature per symbol. Use it for a small vocabulary. Frames enter as they
    are, so `input` and `embedding_size` have no effect on them."""
    embedding_size: PositiveInt = 64
    """Features of the embedding. Raise it for large vocabularies."""
    dropout: Probability = 0.0
    """The probability of dropout, between layers and after the last. Try 0.1 if the training loss falls far below the
    validation loss."""
    variational: bool = False
    """Whether `dropout` and `input_dropout` draw one mask for all steps of a batch (Gal 2016), instead of one per step."""
    input_dropout: Probability = 0.0
    """The probability of dropout of what enters the core."""
    embedding_dropout: Probability = 0.0
    """The probability that a symbol is zeros in the whole batch (Gal 2016; Merity 2017)."""
    tie_weights: bool = False
    """Whether the head and the embedding share one matrix (Press 2017). This needs equal sizes."""
    init: Positive | None = None
    """All weights but those of normalisations begin evenly distributed between -init and init, as in Zaremba 2014. None: as
    PyTorch begins them."""
    embedding_init: Positive | None = None
    """The same of the embedding alone. PyTorch begins it with a std of 1, which is much for a head that shares it."""

    OF_TRAINING: ClassVar = ("dropout", "variational", "input_dropout", "embedding_dropout", "weight_drop")
    """Settings that only training uses. A run that begins from a trained model has its own."""

    def __post_init__(self) -> None:
        if self.tie_weights and (self.input != "embedding" or self.embedding_size != self.hidden_size):
            raise ValueError(
                "tie_weights needs input=embedding and embedding_size equal to hidden_size "
                f"(here input={self.input}, {self.embedding_size} and {self.hidden_size})"
            )
        for key in ("embedding_dropout", "embedding_init"):
            if getattr(self, key) and self.input != "embedding":
                raise ValueError(f"{key}: one-hot input has no embedding; leave it out")
        own: dict[str, Any] = vars(self)
        if self.init is not None and own.get("forget_bias"):
            raise ValueError(f"init={self.init}: draws the bias of the forget gates as well; leave forget_bias out")

    @property
    def drops(self) -> bool:
        """Whether anything is dropped at random in training."""
        return self.dropout > 0 or self.drops_beside_outputs

    @property
    def drops_beside_outputs(self) -> bool:
        """Whether anything but the outputs of layers is dropped."""
        return any(getattr(self, key, 0.0) for key in ("input_dropout", "embedding_dropout", "weight_drop"))

    @property
    def name(self) -> str:
        usual = self.num_layers == type(self).num_layers
        return f"{word(type(self))}{self.hidden_size}" + ("" if usual else f"x{self.num_layers}")

    @abstractmethod
    def build(self, input_size: int) -> "Core":
        """The core, for inputs of `input_size` features."""

    def build_onehot(self, vocab_size: int) -> "tuple[nn.Module, Core]":
        """The reader of one-hot input, and the core behind it."""
        from throughline.model.readers import OneHot

        return OneHot(vocab_size), self.build(vocab_size)


@dataclass(frozen=True, config=STRICT)
class LSTM(Model):
    """Long short-term memory (Hochreiter 1997) with forget gates (Gers 2000), as in `torch.nn.LSTM`."""

    forget_bias: float = 0.0
    """The initial bias of the forget gates. Use 1 if memory has to last before anything is learned (Jozefowicz 2015)."""
    weight_drop: Probability = 0.0
    """The probability that a recurrent weight is zero in the whole batch (Wan 2013; Merity 2017)."""

    def build(self, input_size: int) -> "Core":
        from throughline.model.cores.lstm import LSTMCore

        core = LSTMCore(input_size, self.hidden_size, self.num_layers, self.dropout, self.forget_bias)
        core.weight_drop, core.variational = self.weight_drop, self.variational
        return core

    def build_onehot(self, vocab_size: int) -> "tuple[nn.Module, Core]":
        from torch import nn

        from throughline.model.cores.onehot_lstm import OnehotLSTMCore

        if self.weight_drop or self.input_dropout or (self.variational and self.dropout):
            return super().build_onehot(vocab_size)  # where rows are looked up, nothing of these can be dropped
        sizes = vocab_size, self.hidden_size, self.num_layers
        return nn.Identity(), OnehotLSTMCore(*sizes, self.dropout, self.forget_bias)


@dataclass(frozen=True, config=STRICT)
class GRU(Model):
    """Gated recurrent units (Cho 2014), as in `torch.nn.GRU`: three quarters of an LSTM's weights, and one state."""

    weight_drop: Probability = 0.0
    """The probability that a recurrent weight is zero in the whole batch (Wan 2013; Merity 2017)."""

    def build(self, input_size: int) -> "Core":
        from throughline.model.cores.gru import GRUCore

        core = GRUCore(input_size, self.hidden_size, self.num_layers, self.dropout)
        core.weight_drop, core.variational = self.weight_drop, self.variational
        return core


@dataclass(frozen=True, config=STRICT)
class LayernormLSTM(Model):
    """An LSTM whose gates and cell are normalised at every step (Ba 2016, arXiv 1607.06450).

    It trains more evenly, and costs several times the time, because no fused kernel computes it.
    """

    forget_bias: float = 0.0
    """The initial bias of the forget gates."""

    def build(self, input_size: int) -> "Core":
        from throughline.model.cores.layernorm_lstm import LayernormLSTMCore

        sizes = input_size, self.hidden_size, self.num_layers
        return LayernormLSTMCore(*sizes, self.dropout, self.variational, self.forget_bias)


@dataclass(frozen=True, config=STRICT)
class MinGRU(Model):
    """minGRU (Feng 2024, arXiv 2410.01201): gates see the input alone, so all steps of a batch are computed at once.

    Each layer is the block of the paper without its convolution: normalised, recurrent, added; normalised, two matrices
    with a GELU between them, added.
    """

    num_layers: PositiveInt = 3
    """Blocks, one on top of the other. A single one knows nothing of the order of steps but their age."""
    expansion: PositiveInt = 2
    """The width between the two matrices of a block, as a multiple of `hidden_size`."""

    def build(self, input_size: int) -> "Core":
        from throughline.model.cores.minimal import MinGRUCore

        return MinGRUCore(input_size, self.hidden_size, self.num_layers, self.dropout, self.variational, self.expansion)


@dataclass(frozen=True, config=STRICT)
class MinLSTM(MinGRU):
    """minLSTM (Feng 2024, arXiv 2410.01201): as `MinGRU`, with a forget and an input gate that add up to 1."""

    def build(self, input_size: int) -> "Core":
        from throughline.model.cores.minimal import MinLSTMCore

        return MinLSTMCore(input_size, self.hidden_size, self.num_layers, self.dropout, self.variational, self.expansion)


@dataclass(frozen=True, config=STRICT)
class Head(ABC):
    """The settings of a head, the part that predicts the next step and scores the prediction.

    Attributes:
        predicts: the kind of steps that it predicts, by `Codec.steps`; all but `ids` are frames.
    """

    predicts: ClassVar[Literal["ids", "multi_hot", "real"]] = "ids"

    @property
    def name(self) -> str:
        return word(type(self))

    @abstractmethod
    def build(self, input_size: int, vocab_size: int) -> "HeadModule":
        """The head, for a core's outputs of `input_size` features, and V symbols or frames of F features."""


@dataclass(frozen=True, config=STRICT)
class Categorical(Head):
    """Predicts one symbol per step, by a softmax over the vocabulary."""

    def build(self, input_size: int, vocab_size: int) -> "HeadModule":
        from throughline.model.heads.categorical import CategoricalHead

        return CategoricalHead(input_size, vocab_size)


@dataclass(frozen=True, config=STRICT)
class Bernoulli(Head):
    """Predicts multi-hot frames: the probability of each feature, independent of the other features of the same frame."""

    predicts: ClassVar = "multi_hot"

    def build(self, input_size: int, vocab_size: int) -> "HeadModule":
        from throughline.model.heads.bernoulli import BernoulliHead

        return BernoulliHead(input_size, vocab_size)


@dataclass(frozen=True, config=STRICT)
class Mixture(Head):
    """Predicts real frames: a mixture of Gaussians over all features together (Graves 2013, arXiv 1308.0850)."""

    predicts: ClassVar = "real"

    num_components: PositiveInt = 8
    """Gaussians of the mixture. Raise it if the next frame may lie in many places."""
    min_std: Positive = 1e-3
    """The smallest std of a Gaussian, as a share of the std of its feature in the training split. Without it, values that
    come again exactly would have an infinite density."""

    def build(self, input_size: int, vocab_size: int) -> "HeadModule":
        from throughline.model.heads.mixture import MixtureHead

        return MixtureHead(input_size, vocab_size, self.num_components, self.min_std)
