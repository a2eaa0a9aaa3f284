"""The generator reads steps and predicts the next step. The state is an argument and a result, and is never kept."""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from throughline.batches.carry import State
from throughline.model.cores import Core, Operations
from throughline.model.dropout import dropped, mask_of_weights
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
        self.head: Head = head.build(settings.hidden_size, vocab_size)
        if settings.tie_weights:
            self.head.weight = self.reader.weight
        if settings.init is not None:
            for module in self.modules():
                if not isinstance(module, nn.LayerNorm):
                    for parameter in module.parameters(recurse=False):
                        nn.init.uniform_(parameter, -settings.init, settings.init)
        if settings.embedding_init is not None and isinstance(self.reader, nn.Embedding):
            nn.init.uniform_(self.reader.weight, -settings.embedding_init, settings.embedding_init)

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

    def output_in_parts(
        self, inputs: Tensor, state: State | None, restart: Tensor | None, burn_in: int, handed: int | None
    ) -> tuple[Tensor, State]:
        """The output of the core (T, B, H) before dropout, and the state after some of the steps.

        Masks of dropout inside the core are drawn for each part; all others are those of the whole batch.

        Args:
            burn_in: the first steps, which are read without gradient; their output is zeros.
            handed: the steps after which the state is returned; None is all of them.
        """
        x, rest = self.read(inputs), None if restart is None else restart.t()
        edges = [0, burn_in, max(burn_in, len(x) if handed is None else handed), len(x)]
        outputs, after = [], state
        for number, (first, last) in enumerate(itertools.pairwise(edges)):
            if first < last:
                restarts = () if rest is None else (rest[first:last],)
                with torch.set_grad_enabled(torch.is_grad_enabled() and number > 0):
                    output, state = self.core(x[first:last], state, *restarts)
                if not number:
                    torch.clear_autocast_cache()  # it holds weights without a graph, which the other parts would take
                outputs.append(output if number else torch.zeros_like(output))
            if number < 2:
                after = state
        assert state is not None
        return torch.cat(outputs), tuple(map(torch.zeros_like, state)) if after is None else after

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
        output, state = self.core(self.read(inputs), state, *(() if restart is None else (restart.t(),)))
        return self.dropout(output), state

    def read(self, inputs: Tensor) -> Tensor:
        """The input of the core (T, B, E), after dropout."""
        settings, steps = self.settings, inputs.transpose(0, 1)
        if self.training and settings.embedding_dropout and isinstance(self.reader, nn.Embedding):
            weight = self.reader.weight
            x = F.embedding(steps, weight * mask_of_weights(weight, (self.vocab_size, 1), settings.embedding_dropout))
        else:
            x = self.reader(steps)
        return dropped(x, settings.input_dropout, self.training, settings.variational)

    def dropout(self, output: Tensor) -> Tensor:
        """The output of the core (T, B, H), after dropout."""
        return dropped(output, self.settings.dropout, self.training, self.settings.variational)

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
        by_hand = None
        if not self.settings.drops_beside_outputs:
            by_hand = self.core.single_token(self.reader, self.head, self.settings.dropout)
        return by_hand or AutogradToken(self)
