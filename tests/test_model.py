from dataclasses import asdict

import numpy as np
import pytest
import torch
from torch import Tensor

from throughline.config import Model, checked
from throughline.model.generator import LSTMGenerator, State
from throughline.plumbing.errors import UserError

TOKENS = torch.randint(1, 9, (3, 40), generator=torch.Generator().manual_seed(1))


def rows_of(state: State, rows: slice) -> State:
    return state[0][:, rows], state[1][:, rows]


def test_a_whole_sequence_equals_its_chunks_with_carried_state(model: LSTMGenerator) -> None:
    whole, last = model(TOKENS)
    state, chunks = None, []
    for chunk in TOKENS.split(7, dim=1):
        logits, state = model(chunk, state)
        chunks.append(logits)
    torch.testing.assert_close(torch.cat(chunks, dim=1), whole, rtol=0, atol=1e-14)
    torch.testing.assert_close(state, last, rtol=0, atol=1e-14)
    fresh = torch.cat([model(chunk)[0] for chunk in TOKENS.split(7, dim=1)], dim=1)
    assert (fresh[:, 7:] - whole[:, 7:]).abs().max() > 1e-2  # the state does matter


def test_rows_do_not_touch_each_other(model: LSTMGenerator) -> None:
    together, state = model(TOKENS)
    for row in range(3):
        alone, own = model(TOKENS[row : row + 1])
        torch.testing.assert_close(alone[0], together[row], rtol=0, atol=1e-14)
        torch.testing.assert_close(own, rows_of(state, slice(row, row + 1)), rtol=0, atol=1e-14)


def textbook_lstm(weights: dict[str, np.ndarray], tokens: np.ndarray, layers: int) -> np.ndarray:
    """Logits (N, V) for tokens (N,): one token at a time, state kept, straight from the equations of Gers et al. 2000."""

    def sigmoid(x: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-x))

    H = weights["lstm.weight_hh_l0"].shape[1]  # noqa: N806
    h, c, logits = np.zeros((layers, H)), np.zeros((layers, H)), []
    for token in tokens:
        x = weights["embedding.weight"][token]
        for layer in range(layers):
            gates = weights[f"lstm.weight_ih_l{layer}"] @ x + weights[f"lstm.weight_hh_l{layer}"] @ h[layer]
            gates = gates + weights[f"lstm.bias_ih_l{layer}"] + weights[f"lstm.bias_hh_l{layer}"]
            write, keep, new, show = gates[:H], gates[H : 2 * H], gates[2 * H : 3 * H], gates[3 * H :]
            c[layer] = sigmoid(keep) * c[layer] + sigmoid(write) * np.tanh(new)
            h[layer] = x = sigmoid(show) * np.tanh(c[layer])
        logits.append(weights["head.weight"] @ x + weights["head.bias"])
    return np.array(logits)


def test_an_independent_lstm_with_the_same_weights_agrees_over_a_long_carried_sequence(model: LSTMGenerator) -> None:
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
    lstm = LSTMGenerator(Model(hidden_size=3, num_layers=num_layers, forget_bias=1), vocab_size=4).lstm
    for layer in range(num_layers):
        bias = getattr(lstm, f"bias_ih_l{layer}") + getattr(lstm, f"bias_hh_l{layer}")
        assert bias[3:6].tolist() == [1, 1, 1]
        assert 1 not in bias[:3].tolist() + bias[6:].tolist()


def test_dropout_stands_between_layers_and_after_the_last() -> None:
    model = LSTMGenerator(Model(hidden_size=4, num_layers=2, dropout=0.5), vocab_size=4)
    assert (model.lstm.dropout, model.dropout.p) == (0.5, 0.5)
    one, two = (model.train()(TOKENS[:, :4] % 4)[0] for _ in range(2))
    assert (one != two).any()
    one, two = (model.eval()(TOKENS[:, :4] % 4)[0] for _ in range(2))
    assert (one == two).all()


def test_tied_weights() -> None:
    model = LSTMGenerator(Model(hidden_size=4, embedding_size=4, tie_weights=True), vocab_size=5)
    assert model.head.weight is model.embedding.weight  # type: ignore[union-attr]
    sizes = asdict(Model()) | {"tie_weights": True}
    with pytest.raises(UserError, match="tie_weights needs input=embedding and embedding_size equal to hidden_size"):
        checked(Model, sizes)


def loss_and_gradients(model: LSTMGenerator) -> tuple[Tensor, State, dict[str, Tensor]]:
    state = (
        torch.full((model.sizes.num_layers, 3, 6), 0.3).double(),
        torch.full((model.sizes.num_layers, 3, 6), -0.4).double(),
    )
    logits, (h, c) = model(TOKENS, state)
    (logits.square().sum() + h.sin().sum() + c.exp().sum()).backward()
    return (
        logits.detach(),
        (h.detach(), c.detach()),
        {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None},
    )


@pytest.mark.parametrize("num_layers", [1, 3])
def test_one_hot_input_gives_the_same_by_rows_as_by_the_dense_product(
    num_layers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = Model(hidden_size=6, num_layers=num_layers, input="onehot")
    torch.manual_seed(0)
    dense = LSTMGenerator(sizes, vocab_size=9).double()
    monkeypatch.setattr("throughline.model.cores.onehot_lstm.DENSE_UP_TO", 8)
    by_rows = LSTMGenerator(sizes, vocab_size=9).double()
    by_rows.load_state_dict(dense.state_dict())
    calls = []
    monkeypatch.setattr("torch.nn.functional.one_hot", lambda *args: calls.append(args))
    logits, state, gradients = loss_and_gradients(by_rows)
    assert not calls
    monkeypatch.undo()
    expected_logits, expected_state, expected_gradients = loss_and_gradients(dense)
    torch.testing.assert_close(logits, expected_logits, rtol=0, atol=1e-13)
    torch.testing.assert_close(state, expected_state, rtol=0, atol=1e-13)
    torch.testing.assert_close(gradients, expected_gradients, rtol=1e-12, atol=1e-12)
    assert len(gradients) == 4 * num_layers + 2
