from dataclasses import asdict

import numpy as np
import pytest
import torch

from throughline.model.generator import Generator
from throughline.model.settings import LSTM
from throughline.plumbing.errors import UserError
from throughline.settings import checked

TOKENS = torch.randint(1, 9, (3, 40), generator=torch.Generator().manual_seed(1))


def textbook_lstm(weights: dict[str, np.ndarray], tokens: np.ndarray, layers: int) -> np.ndarray:
    """Logits (N, V) for tokens (N,): one token at a time, state kept, straight from the equations of Gers et al. 2000."""

    def sigmoid(x: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-x))

    H = weights["core.weight_hh_l0"].shape[1]  # noqa: N806
    h, c, logits = np.zeros((layers, H)), np.zeros((layers, H)), []
    for token in tokens:
        x = weights["reader.weight"][token]
        for layer in range(layers):
            gates = weights[f"core.weight_ih_l{layer}"] @ x + weights[f"core.weight_hh_l{layer}"] @ h[layer]
            gates = gates + weights[f"core.bias_ih_l{layer}"] + weights[f"core.bias_hh_l{layer}"]
            write, keep, new, show = gates[:H], gates[H : 2 * H], gates[2 * H : 3 * H], gates[3 * H :]
            c[layer] = sigmoid(keep) * c[layer] + sigmoid(write) * np.tanh(new)
            h[layer] = x = sigmoid(show) * np.tanh(c[layer])
        logits.append(weights["head.weight"] @ x + weights["head.bias"])
    return np.array(logits)


def test_an_independent_lstm_with_the_same_weights_agrees_over_a_long_carried_sequence(model: Generator) -> None:
    tokens = torch.randint(0, 9, (5000,), generator=torch.Generator().manual_seed(2))
    weights = {name: value.detach().numpy() for name, value in model.named_parameters()}
    expected = textbook_lstm(weights, tokens.numpy(), layers=2)
    state, chunks = None, []
    with torch.no_grad():
        for chunk in tokens.split(64):
            logits, state = model(chunk[None], state)
            chunks.append(logits[0])
    np.testing.assert_allclose(torch.cat(chunks).numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("num_layers", [1, 2])
def test_forget_gates_start_open(num_layers: int) -> None:
    lstm = Generator(LSTM(hidden_size=3, num_layers=num_layers, forget_bias=1), vocab_size=4).core
    for layer in range(num_layers):
        bias = getattr(lstm, f"bias_ih_l{layer}") + getattr(lstm, f"bias_hh_l{layer}")
        assert bias[3:6].tolist() == [1, 1, 1]
        assert 1 not in bias[:3].tolist() + bias[6:].tolist()


def test_dropout_stands_between_layers_and_after_the_last() -> None:
    model = Generator(LSTM(hidden_size=4, num_layers=2, dropout=0.5), vocab_size=4)
    assert model.core.dropout == 0.5
    one, two = (model.train()(TOKENS[:, :4] % 4)[0] for _ in range(2))
    assert (one != two).any()
    one, two = (model.eval()(TOKENS[:, :4] % 4)[0] for _ in range(2))
    assert (one == two).all()


def test_tied_weights() -> None:
    model = Generator(LSTM(hidden_size=4, embedding_size=4, tie_weights=True), vocab_size=5)
    assert model.head.weight is model.reader.weight  # type: ignore[union-attr]
    sizes = asdict(LSTM()) | {"tie_weights": True}
    with pytest.raises(UserError, match="tie_weights needs input=embedding and embedding_size equal to hidden_size"):
        checked(LSTM, sizes)
