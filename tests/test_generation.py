import numpy as np
import pytest
import torch

from throughline.generation import generate, sample
from throughline.model import LSTMGenerator

PROMPT = np.array([1, 2, 3])


def test_what_is_generated_is_what_the_model_says_of_the_whole_text(model: LSTMGenerator) -> None:
    model.head.weight.data *= 20
    greedy = [row[0] for row in generate(model, PROMPT, 30, temperature=1e-6)]
    text = torch.tensor([[*PROMPT.tolist(), *greedy]])
    logits = model(text)[0][0, len(PROMPT) - 1 : -1]
    logits[:, 0] = -torch.inf
    assert greedy == logits.argmax(-1).tolist()
    assert len(set(greedy)) > 1


def test_any_number_of_sequences_from_one_model(model: LSTMGenerator) -> None:
    rows = list(generate(model, PROMPT, 50, num_sequences=8, seed=1))
    assert [len(row) for row in rows] == [8] * 50
    assert len({tuple(sequence) for sequence in zip(*rows, strict=True)}) == 8
    assert rows == list(generate(model, PROMPT, 50, num_sequences=8, seed=1))
    assert rows != list(generate(model, PROMPT, 50, num_sequences=8, seed=2))


@pytest.mark.parametrize(
    ("top_k", "top_p", "allowed"),
    [
        (None, None, {1, 2, 3, 4}),
        (2, None, {2, 4}),
        (1, None, {4}),
        (None, 0.8, {2, 4}),
        (None, 0.81, {2, 3, 4}),
        (9, 1e-9, {4}),
    ],
)
def test_sampling_stays_among_the_likeliest(top_k: int | None, top_p: float | None, allowed: set[int]) -> None:
    logits = torch.tensor([[0.9, 0.05, 0.3, 0.15, 0.5]]).log().repeat(2000, 1)  # the unknown symbol is the likeliest
    drawn = sample(logits, 1.0, top_k, top_p, torch.Generator().manual_seed(0))
    assert set(drawn[:, 0].tolist()) == allowed


def test_temperature_flattens_and_sharpens() -> None:
    logits = torch.tensor([[0.0, 0.1, 0.2, 0.7]]).log().repeat(20_000, 1)
    expected = {1.0: [0.1, 0.2, 0.7], 0.5: np.array([0.01, 0.04, 0.49]) / 0.54}
    for temperature, shares in expected.items():
        drawn = sample(logits, temperature, None, None, torch.Generator().manual_seed(0))[:, 0]
        np.testing.assert_allclose(drawn.bincount(minlength=4)[1:] / 20_000, shares, atol=0.02)


def test_the_smallest_temperature_takes_the_likeliest() -> None:
    logits = torch.tensor([[9.0, 0.1, 0.3, 0.2]])
    assert sample(logits, 1e-40, None, None, torch.Generator()).tolist() == [[2]]
    assert logits.tolist()[0][0] == 9.0
