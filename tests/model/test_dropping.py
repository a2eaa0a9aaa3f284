"""What is dropped in training: which masks are drawn, how often, and that they stay for the whole batch."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from throughline.model.dropout import dropped
from throughline.model.generator import Generator
from throughline.model.settings import GRU, LSTM, MinGRU, Model
from throughline.model.steps import AutogradToken

IDS = torch.randint(1, 9, (3, 12), generator=torch.Generator().manual_seed(0))


def built(settings: Model) -> Generator:
    torch.manual_seed(0)
    return Generator(settings, 9).double()


def test_a_mask_is_drawn_for_each_step_or_for_all() -> None:
    ones = torch.ones(50, 4, 6)
    torch.manual_seed(0)
    each, whole = dropped(ones, 0.5, True), dropped(ones, 0.5, True, variational=True)
    assert torch.equal(whole, whole[:1].expand_as(whole))
    assert not torch.equal(each[0], each[1])
    assert {*whole.unique().tolist()} == {*each.unique().tolist()} == {0.0, 2.0}
    assert dropped(ones, 0.5, False) is ones
    assert dropped(ones, 0.0, True) is ones


def test_a_symbol_is_dropped_in_the_whole_batch() -> None:
    generator = built(LSTM(hidden_size=4, embedding_size=5, embedding_dropout=0.5)).train()
    x = generator.read(IDS)
    zero = (x == 0).all(dim=2)
    for symbol in IDS.unique():
        there = zero[IDS.t() == symbol]
        assert there.all() or not there.any()
    assert 0 < zero.float().mean() < 1
    torch.testing.assert_close(x[~zero], 2 * generator.reader(IDS.t())[~zero])
    assert torch.equal(generator.eval().read(IDS), generator.reader(IDS.t()))


@pytest.mark.parametrize("cls", [LSTM, GRU])
@pytest.mark.parametrize("input", ["embedding", "onehot"])
def test_dropped_recurrent_weights_stay_zero_for_all_steps(cls: type[Any], input: str) -> None:
    """The same batch, read at once by a core whose weights were set to what was dropped."""
    generator = built(cls(hidden_size=4, num_layers=2, input=input, weight_drop=0.5)).train()
    torch.manual_seed(7)
    found, _ = generator(IDS)
    torch.manual_seed(7)
    own = {name: weight for name, weight in generator.core.named_parameters() if "weight_hh" in name}
    kept = {name: weight.detach().clone() for name, weight in own.items()}
    for name in sorted(own):
        own[name].data = F.dropout(kept[name], 0.5)
    changed, _ = generator.eval()(IDS)
    torch.testing.assert_close(found, changed, rtol=0, atol=1e-12)
    for name, weight in kept.items():
        own[name].data = weight
    assert (generator(IDS)[0] - found).abs().max() > 1e-3
    found.sum().backward()
    assert all(weight.grad is not None and (weight.grad != 0).any() for weight in own.values())


def test_variational_dropout_between_layers_and_after_the_last_has_one_mask() -> None:
    generator = built(LSTM(hidden_size=40, num_layers=2, dropout=0.5, variational=True)).train()
    output, _ = generator.output(IDS, None)
    zero = output == 0
    assert torch.equal(zero, zero[:1].expand_as(zero))
    assert 0.3 < zero.float().mean() < 0.7
    torch.manual_seed(1)
    once = generator(IDS)[0]
    torch.manual_seed(1)
    assert torch.equal(generator(IDS)[0], once)
    assert not torch.equal(generator(IDS)[0], once)


@pytest.mark.parametrize(
    ("settings", "by_hand"), [(LSTM(dropout=0.5), True), (LSTM(weight_drop=0.5), False), (LSTM(input_dropout=0.5), False)]
)
def test_single_tokens_by_hand_know_dropped_outputs_alone(settings: Model, by_hand: bool) -> None:
    assert isinstance(built(settings).float().single_token(), AutogradToken) != by_hand


def test_all_weights_begin_evenly_in_a_range() -> None:
    weights = torch.cat([weight.detach().flatten() for weight in built(LSTM(hidden_size=64, init=0.1)).parameters()])
    assert weights.abs().max() <= 0.1
    assert weights.std() == pytest.approx(0.1 / 3**0.5, rel=0.02)


def test_normalisations_begin_as_they_do_and_the_embedding_may_have_a_range_of_its_own() -> None:
    core = built(MinGRU(hidden_size=8, init=0.1)).core
    for module in core.modules():
        if isinstance(module, torch.nn.LayerNorm):
            assert module.weight.eq(1).all()
    generator = built(LSTM(hidden_size=8, embedding_size=8, tie_weights=True, embedding_init=0.01))
    assert generator.head.weight.abs().max() <= 0.01  # type: ignore[union-attr]
    assert generator.core.weight_hh_l0.abs().max() > 0.1  # type: ignore[union-attr]


def test_one_hot_input_has_no_embedding_to_drop() -> None:
    with pytest.raises(ValueError, match="embedding_dropout: one-hot input has no embedding"):
        LSTM(input="onehot", embedding_dropout=0.1)
