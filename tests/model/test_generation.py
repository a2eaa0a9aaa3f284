from typing import Any

import numpy as np
import pytest
import torch

from throughline.model.generation import ROWS, generate, sequences
from throughline.model.generator import Generator
from throughline.model.heads.categorical import CategoricalHead, gumbel_noise, sample
from throughline.model.settings import GRU, LSTM

PROMPT = np.array([1, 2, 3])


def test_what_is_generated_is_what_the_model_says_of_the_whole_text(model: Generator) -> None:
    for weight in model.parameters():
        weight.data *= 5  # so that the output does not repeat one symbol for ever
    greedy = [row[0] for row in generate(model, PROMPT, 30, temperature=1e-6)]
    text = torch.tensor([[*PROMPT.tolist(), *greedy]])
    logits = model(text)[0][0, len(PROMPT) - 1 : -1]
    logits[:, 0] = -torch.inf
    assert greedy == logits.argmax(-1).tolist()
    assert greedy == [row[0] for row in generate(model, PROMPT, 30, temperature=0)]
    assert len(set(greedy)) > 1


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize(
    ("sizes", "vocab_size"),
    [
        (LSTM(hidden_size=6, num_layers=1, embedding_size=5), 9),
        (LSTM(hidden_size=6, num_layers=3, embedding_size=5, dropout=0.5), 9),
        (LSTM(hidden_size=6, num_layers=2, embedding_size=6, tie_weights=True), 9),
        (LSTM(hidden_size=6, num_layers=2, input="onehot"), 9),
        (LSTM(hidden_size=6, num_layers=2, input="onehot"), 300),  # read by rows
    ],
)
def test_each_step_is_the_model(sizes: LSTM, vocab_size: int, dtype: torch.dtype, tolerance: float) -> None:
    torch.manual_seed(0)
    model = Generator(sizes, vocab_size).to(dtype).eval()
    texts = torch.randint(vocab_size, (3, 40))
    texts[:, 20] = 0  # the unknown symbol; a prompt may contain it
    with torch.inference_mode():
        _, state = model(texts[:1, :10])
        expected, _ = model(
            texts[:, 10:], (state[0].expand(-1, 3, -1).contiguous(), state[1].expand(-1, 3, -1).contiguous())
        )
    stepper = model.stepper(state, 3)
    steps = np.stack([stepper.step(tokens) for tokens in texts[:, 10:].T.numpy()], axis=1)  # B, T, V
    assert steps.dtype == expected.numpy().dtype
    np.testing.assert_allclose(steps, expected, rtol=0, atol=tolerance)


def test_any_number_of_sequences_from_one_model(model: Generator) -> None:
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
        (None, 0.79, {2, 4}),
        (None, 0.81, {2, 3, 4}),
        (9, 1e-9, {4}),
    ],
)
def test_sampling_stays_among_the_likeliest(top_k: int | None, top_p: float | None, allowed: set[int]) -> None:
    logits = np.log([[0.9, 0.05, 0.3, 0.15, 0.5]]).repeat(2000, axis=0)  # the unknown symbol is the likeliest
    before = logits.copy()
    assert set(draw(logits, 1.0, top_k, top_p)) == allowed
    np.testing.assert_array_equal(logits, before)


def test_temperature_flattens_and_sharpens() -> None:
    logits = np.log([[0.9, 0.1, 0.2, 0.7]]).repeat(20_000, axis=0)
    expected = {1.0: [0.1, 0.2, 0.7], 0.5: np.array([0.01, 0.04, 0.49]) / 0.54}
    for temperature, shares in expected.items():
        drawn = draw(logits, temperature)
        np.testing.assert_allclose(np.bincount(drawn, minlength=4) / 20_000, [0, *shares], atol=0.02)


def test_top_p_counts_probabilities_at_the_temperature() -> None:
    logits = np.log([[0.9, 0.05, 0.3, 0.15, 0.5]]).repeat(2000, axis=0)
    assert set(draw(logits, 0.25, top_p=0.8)) == {4}  # (5/3)^4 times as likely as the next
    assert set(draw(logits, 4.0, top_p=0.8)) == {2, 3, 4}


@pytest.mark.parametrize(("top_k", "top_p"), [(None, None), (3, None), (None, 0.5)])
def test_the_smallest_temperature_takes_the_likeliest(top_k: int | None, top_p: float | None) -> None:
    logits = np.array([[9.0, 0.1, 0.3, 0.2]], dtype=np.float32)
    assert draw(logits, 1e-300, top_k, top_p) == [2]


def test_at_temperature_0_the_first_of_the_likeliest_is_taken_and_never_the_unknown_one() -> None:
    logits = np.array([[9, 0.1, 0.3, 0.3], [0, -1, -1, -2], [5, -np.inf, -3, -3]], dtype=np.float32)
    take = CategoricalHead(2, 4).sampler(np.random.default_rng(0), 3, 0.0, 1, 0.5)
    assert [take(logits).tolist(), take(logits).tolist()] == [[2, 1, 2], [2, 1, 2]]


END = 8


def test_sequences_of_a_length_are_those_of_the_batches(model: Generator) -> None:
    made = list(sequences(model, PROMPT, 5, ROWS + 3, seed=7))
    rows = [
        *zip(*generate(model, PROMPT, 5, num_sequences=ROWS, seed=7), strict=True),
        *zip(*generate(model, PROMPT, 5, num_sequences=3, seed=(7, 1)), strict=True),
    ]
    assert made == [list(row) for row in rows]
    assert len({tuple(row) for row in made}) > ROWS // 2


def test_sequences_end_with_the_first_end_or_are_cut(model: Generator) -> None:
    made = list(sequences(model, np.array([END]), 6, 3 * ROWS, end=END, seed=7))
    rows = list(zip(*generate(model, np.array([END]), 7, num_sequences=ROWS, seed=7), strict=True))
    assert made[:ROWS] == [list(row[: row.index(END) + 1] if END in row else row[:6]) for row in rows]
    lengths = {(len(row), row[-1] == END) for row in made}
    assert {(6, False), (7, True), (1, True)} <= lengths  # with six symbols before its end, a sequence is still whole
    assert all(END not in row[:-1] for row in made)


@pytest.mark.parametrize("settings", [LSTM(hidden_size=6, num_layers=2, embedding_size=5), GRU(hidden_size=6, num_layers=2)])
def test_a_sequence_that_begins_where_another_ended_has_its_probability(settings: LSTM | GRU) -> None:
    """Of the draws after the first batch: the share of each short sequence is what the model says of it."""
    torch.manual_seed(0)
    model = Generator(settings, vocab_size=4).double().eval()
    for weight in model.parameters():
        weight.data *= 3
    model.head.bias.data[0] = -1e4  # the unknown symbol is never drawn
    made = list(sequences(model, np.array([3]), 50, 40 * ROWS, end=3, seed=7))[ROWS:]
    for short in ([3], [1, 3], [2, 3], [1, 1, 3], [1, 2, 3]):
        steps = torch.tensor([[3, *short]])
        share = (-model.score(steps[:, :-1], steps[:, 1:])[0].sum()).exp().item()
        assert made.count(short) / len(made) == pytest.approx(share, abs=4 * (share / len(made)) ** 0.5)
        assert share > 1e-3


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
@pytest.mark.parametrize("settings", [LSTM(hidden_size=6, num_layers=2, embedding_size=5), GRU(hidden_size=6, num_layers=2)])
def test_rows_restart_from_the_first_state(settings: LSTM | GRU, dtype: torch.dtype, tolerance: float) -> None:
    torch.manual_seed(0)
    model = Generator(settings, vocab_size=9).to(dtype).eval()
    with torch.inference_mode():
        _, state = model(torch.tensor([[1, 2, 3]]))
    played, fresh = model.stepper(state, 3), model.stepper(state, 3)
    tokens = np.array([4, 5, 6])
    first, second = played.step(tokens).copy(), played.step(tokens).copy()
    played.restart([0, 2])
    again = played.step(tokens).copy()
    np.testing.assert_allclose(again[[0, 2]], first[[0, 2]], rtol=0, atol=tolerance)
    np.testing.assert_allclose(first, fresh.step(tokens), rtol=0, atol=tolerance)
    fresh.step(tokens)
    np.testing.assert_allclose(again[1], fresh.step(tokens)[1], rtol=0, atol=tolerance)
    assert abs(again - second).min() > 5 * tolerance
    with torch.inference_mode():
        _, expected = model(torch.from_numpy(tokens.repeat(3).reshape(3, 3)), tuple(s.repeat(1, 3, 1) for s in state))
    for own, whole in zip(fresh.state, expected, strict=True):
        np.testing.assert_allclose(own, whole, rtol=0, atol=tolerance)


@pytest.mark.parametrize("number", [1, 2, ROWS, ROWS + 1])
def test_the_first_sequences_with_ends_do_not_depend_on_how_many_follow(model: Generator, number: int) -> None:
    many = list(sequences(model, np.array([END]), 40, 2 * ROWS + 5, end=END, seed=3))
    assert list(sequences(model, np.array([END]), 40, number, end=END, seed=3)) == many[:number]
    assert len(many) == 2 * ROWS + 5


def test_no_step_is_made_after_the_last_end(model: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = list(sequences(model, np.array([END]), 10_000, 3, end=END, seed=1))
    steps = 0
    stepper = model.stepper

    def counting(*args: Any) -> Any:
        made = stepper(*args)
        step = made.step

        def counted(tokens: np.ndarray) -> np.ndarray:
            nonlocal steps
            steps += 1
            return step(tokens)

        monkeypatch.setattr(made, "step", counted)
        return made

    monkeypatch.setattr(model, "stepper", counting)
    assert list(sequences(model, np.array([END]), 10_000, 3, end=END, seed=1)) == wanted
    assert steps == max(map(len, wanted)) - 1 > 0


def draw(logits: np.ndarray, temperature: float, top_k: int | None = None, top_p: float | None = None) -> list[int]:
    noise = next(gumbel_noise(np.random.default_rng(0), logits.shape, temperature))
    return sample(logits, noise, temperature, top_k, top_p).tolist()
