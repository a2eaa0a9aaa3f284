"""The LSTM generator: tokens in, logits for the next token out; the state is an argument and a result, never kept."""

from torch import Tensor, nn

from throughline.config import Model
from throughline.model.cores.onehot_lstm import OneHotLSTM

State = tuple[Tensor, Tensor]
"""`(h, c)`, each (L, B, H): all that the network remembers."""


class LSTMGenerator(nn.Module):
    """Embedding or one-hot input, LSTM, linear head; holds weights only.

    Args:
        sizes: as configured.
        vocab_size: V.
    """

    def __init__(self, sizes: Model, vocab_size: int) -> None:
        super().__init__()
        self.sizes = sizes
        self.vocab_size = vocab_size
        H, L, dropout = sizes.hidden_size, sizes.num_layers, sizes.dropout if sizes.num_layers > 1 else 0.0  # noqa: N806
        self.embedding: nn.Embedding | None = None
        self.lstm: nn.LSTM
        if sizes.input == "embedding":
            self.embedding = nn.Embedding(vocab_size, sizes.embedding_size)
            self.lstm = nn.LSTM(sizes.embedding_size, H, L, dropout=dropout)
        else:
            self.lstm = OneHotLSTM(vocab_size, H, L, dropout)
        self.dropout = nn.Dropout(sizes.dropout)
        self.head = nn.Linear(sizes.hidden_size, vocab_size)
        if sizes.tie_weights and self.embedding is not None:
            self.head.weight = self.embedding.weight
        self._open_forget_gates()

    def _open_forget_gates(self) -> None:
        """Start with `forget_bias` in the forget gates; 1 lets memory last before anything is learned (Jozefowicz 2015)."""
        H = self.sizes.hidden_size  # noqa: N806
        for layer in range(self.sizes.num_layers):
            bias_ih, bias_hh = getattr(self.lstm, f"bias_ih_l{layer}"), getattr(self.lstm, f"bias_hh_l{layer}")
            nn.init.constant_(bias_ih.data[H : 2 * H], self.sizes.forget_bias)
            nn.init.zeros_(bias_hh.data[H : 2 * H])

    def forward(self, inputs: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Read tokens and say what comes next.

        Args:
            inputs: (B, T) token ids.
            state: where the rows go on from; None is zeros.

        Returns:
            Logits (B, T, V), of which a step lies together in memory, and the state after the last step.
        """
        # Time comes first inside, as oneDNN and cuDNN have it; the other way round they copy what they read and write.
        steps = inputs.t()  # T, B
        x = steps if self.embedding is None else self.embedding(steps)  # T, B (, E)
        output, state = self.lstm(x, state)  # T, B, H
        logits: Tensor = self.head(self.dropout(output))  # T, B, V
        return logits.transpose(0, 1), state
