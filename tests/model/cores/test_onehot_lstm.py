import pytest
import torch
from torch import Tensor

from throughline.batches.carry import State
from throughline.model.generator import Generator
from throughline.model.settings import LSTM

TOKENS = torch.randint(1, 9, (3, 40), generator=torch.Generator().manual_seed(1))


def loss_and_gradients(model: Generator) -> tuple[Tensor, State, dict[str, Tensor]]:
    state = (
        torch.full((model.settings.num_layers, 3, 6), 0.3).double(),
        torch.full((model.settings.num_layers, 3, 6), -0.4).double(),
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
    sizes = LSTM(hidden_size=6, num_layers=num_layers, input="onehot")
    torch.manual_seed(0)
    dense = Generator(sizes, vocab_size=9).double()
    monkeypatch.setattr("throughline.model.cores.onehot_lstm.DENSE_UP_TO", 8)
    by_rows = Generator(sizes, vocab_size=9).double()
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
