"""The generator reads steps and predicts the next step. The state is an argument and a result, and is never kept."""

import torch
from torch import Tensor, nn

from throughline.batches.carry import State
from throughline.model.cores import Core, Operations
from throughline.model.heads import Head
from throughline.model.readers import AsTheyAre
from throughline.model.settings import Categorical, Model
from throughline.model.settings import Head as HeadSettings
from throughline.model.steps import AutogradToken, SingleToken, Stepper, TorchStepper


class Generator(nn.Module):
    """A reader, a core, and a head; holds weights only.

    Args:
        settings: the core and its sizes.
        vocab_size: V, or F if the head predicts frames.
        head: the kind of head; it says whether steps are ids or frames.
    """

    def __init__(self, settings: Model, vocab_size: int, head: HeadSettings = Categorical()) -> None:  # noqa: B008  # frozen
        super().__init__()
        self.settings = settings
        self.head_settings = head
        self.vocab_size = vocab_size
        self.reader: nn.Module
        self.core: Core
        if head.predicts != "ids":
            self.reader, self.core = AsTheyAre(), settings.build(vocab_size)
        elif settings.input == "embedding":
            self.reader = nn.Embedding(vocab_size, settings.embedding_size)
            self.core = settings.build(settings.embedding_size)
        else:
            self.reader, self.core = settings.build_onehot(vocab_size)
        self.dropout = nn.Dropout(settings.dropout)
        self.head: Head = head.build(settings.hidden_size, vocab_size)
        if settings.tie_weights:
            self.head.weight = self.reader.weight

    def forward(self, inputs: Tensor, state: State | None = None, restart: Tensor | None = None) -> tuple[Tensor, State]:
        """Read steps and predict the next ones.

        Args:
            inputs: (B, T) token ids, or (B, T, F) frames.
            state: where the rows continue from; None is zeros.
            restart: (B, T) bool, steps after which a row is at zeros, for a core that `restarts`.

        Returns:
            Predictions (B, T, P), in memory step after step, and the state after the last step.
        """
        output, state = self.output(inputs, state, restart)
        predicted: Tensor = self.head(output)  # T, B, P
        return predicted.transpose(0, 1), state

    def nll(
        self, inputs: Tensor, targets: Tensor, state: State | None = None, restart: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Read steps and score the targets (B, T) or (B, T, F), for training.

        Returns:
            The nll (B, T) of every target in nats, and the state after the last step.
        """
        output, state = self.output(inputs, state, restart)
        return self.head.nll_of(output, targets.transpose(0, 1)).t(), state

    def score(
        self, inputs: Tensor, targets: Tensor, state: State | None = None, restart: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None, State]:
        """Read steps and score the targets (B, T) or (B, T, F), for evaluation.

        Returns:
            The nll (B, T) of every target in nats; whether it is the likeliest step (B, T), or None if no step is likelier
            than others; and the state after the last step.
        """
        output, state = self.output(inputs, state, restart)
        nll, correct = self.head.score(output, targets.transpose(0, 1))
        return nll.t(), None if correct is None else correct.t(), state

    def output(self, inputs: Tensor, state: State | None, restart: Tensor | None = None) -> tuple[Tensor, State]:
        """The output of the core (T, B, H), after dropout.

        Time is the first dimension inside, as in oneDNN and cuDNN. With batch first they would copy input and output.
        """
        restarts = () if restart is None else (restart.t(),)
        output, state = self.core(self.reader(inputs.transpose(0, 1)), state, *restarts)
        return self.dropout(output), state

    @property
    def reads_frames(self) -> bool:
        """Whether its steps are frames, not ids."""
        return self.head_settings.predicts != "ids"

    def empty_inputs(self, rows: int, steps: int) -> Tensor:
        """Steps of padding, (B, T) or (B, T, F)."""
        device = next(self.parameters()).device
        if self.reads_frames:
            return torch.zeros(rows, steps, self.vocab_size, device=device)
        return torch.zeros(rows, steps, dtype=torch.int64, device=device)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        return next(self.parameters()).dtype

    def operations(self) -> Operations:
        """Floating-point operations of training; looking up a row and multiplying by one-hot zeros count as none."""
        if self.reads_frames:
            width = self.vocab_size
        else:
            width = self.settings.embedding_size if self.settings.input == "embedding" else 0
        core = self.core.operations(width)
        return core._replace(per_position=core.per_position + self.head.operations())

    def stepper(self, state: State, rows: int) -> Stepper:
        """The generator one step at a time, for `rows` sequences that all continue from the state of one row."""
        return self.core.stepper(self.reader, self.head, state, rows) or TorchStepper(self, state, rows)

    def single_token(self) -> SingleToken:
        """The generator one token at a time, with the gradients of that token alone."""
        return self.core.single_token(self.reader, self.head, self.settings.dropout) or AutogradToken(self)
