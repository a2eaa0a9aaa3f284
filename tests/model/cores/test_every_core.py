"""Tests for every core, present and future. The cores are found by their settings."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from helpers import asked, column, corpus_of, rows, run, run_with_kills, saved, weights_hash
from throughline.batches.carry import State
from throughline.commands.export import export
from throughline.data.codecs.characters import Characters
from throughline.data.corpus import Corpus
from throughline.model.cores.lstm import LSTMCore
from throughline.model.generation import generate
from throughline.model.generator import Generator
from throughline.model.heads.categorical import CategoricalHead
from throughline.model.settings import GRU, LSTM, LayernormLSTM, MinGRU, MinLSTM, Model
from throughline.model.steps import AutogradToken, TorchStepper
from throughline.plumbing.errors import UserError
from throughline.runs.trained import load
from throughline.settings import targets, word

CORES: dict[type[Model], Callable[..., Model]] = {each: each for each in (LSTM, GRU, LayernormLSTM, MinGRU, MinLSTM)}
GATES = {LSTM: 4, GRU: 3, LayernormLSTM: 4, MinGRU: 1, MinLSTM: 1}
"""The matrices that read the input; those of a minimal core read what a first one has made of it."""
V = 9
TOKENS = torch.randint(1, V, (3, 40), generator=torch.Generator().manual_seed(1))
INPUTS = ["embedding", "onehot"]


def built(cls: type[Model], vocab_size: int = V, dtype: torch.dtype = torch.float64, **sizes: Any) -> Generator:
    torch.manual_seed(0)
    return (
        Generator(CORES[cls](**{"hidden_size": 6, "num_layers": 2, "embedding_size": 5} | sizes), vocab_size)
        .to(dtype)
        .eval()
    )


def row(state: State, number: int) -> State:
    return tuple(s[:, number : number + 1] for s in state)


def test_every_core_is_tested_here() -> None:
    assert set(targets(Model).values()) == set(CORES)  # type: ignore[type-abstract]


@pytest.mark.parametrize("input", INPUTS)
@pytest.mark.parametrize("cls", CORES)
def test_a_whole_sequence_equals_its_chunks_with_carried_state(cls: type[Model], input: str) -> None:
    generator = built(cls, input=input)
    whole, last = generator(TOKENS)
    state, chunks = None, []
    for chunk in TOKENS.split(7, dim=1):
        predicted, state = generator(chunk, state)
        chunks.append(predicted)
    torch.testing.assert_close(torch.cat(chunks, dim=1), whole, rtol=0, atol=1e-13)
    torch.testing.assert_close(state, last, rtol=0, atol=1e-13)
    fresh = torch.cat([generator(chunk)[0] for chunk in TOKENS.split(7, dim=1)], dim=1)
    assert (fresh[:, 7:] - whole[:, 7:]).abs().max() > 1e-2  # the state matters


@pytest.mark.parametrize("cls", CORES)
def test_a_state_has_its_rows_in_dimension_1_and_they_do_not_touch(cls: type[Model]) -> None:
    generator = built(cls)
    together, state = generator(TOKENS)
    assert len(state) == len(generator.core.state_names)
    for number in range(3):
        alone, own = generator(TOKENS[number : number + 1])
        torch.testing.assert_close(alone[0], together[number], rtol=0, atol=1e-13)
        torch.testing.assert_close(own, row(state, number), rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    "sizes", [{}, {"num_layers": 1}, {"num_layers": 3, "input": "onehot"}, {"hidden_size": 5, "tie_weights": True}]
)
@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize("cls", CORES)
def test_its_operations_are_those_that_a_counter_counts(cls: type[Model], steps: int, sizes: dict[str, Any]) -> None:
    B = 3  # noqa: N806
    generator = built(cls, **sizes)  # in float64: in float32 oneDNN's LSTM is one operation that the counter does not know
    zeros = tuple(torch.zeros_like(s) for s in generator(TOKENS)[1])
    with FlopCounterMode(display=False) as counter:
        predicted, _ = generator(torch.ones(B, steps, dtype=torch.long), zeros)
        predicted.sum().backward()
    counted, per_step = generator.operations(), generator.settings.hidden_size * V * GATES[cls]
    # The counter includes the products with one-hot rows, forward and for the gradient of the weights. Ours does not.
    dense = 2 * 2 * per_step if generator.settings.input == "onehot" else 0
    assert counter.get_total_flops() == B * steps * (counted.per_position + dense) - B * counted.less_per_row
    assert (counted.less_per_row > 0) == (GATES[cls] > 1)


@pytest.mark.parametrize("input", INPUTS)
@pytest.mark.parametrize("cls", CORES)
def test_a_step_of_generation_is_the_model(cls: type[Model], input: str) -> None:
    generator = built(cls, input=input)
    texts = torch.randint(V, (3, 20), generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        _, state = generator(texts[:1, :10])
        expected, _ = generator(texts[:, 10:], tuple(s.expand(-1, 3, -1).contiguous() for s in state))
    for stepper in (generator.stepper(state, 3), TorchStepper(generator, state, 3)):
        steps = np.stack([stepper.step(tokens) for tokens in texts[:, 10:].T.numpy()], axis=1)  # B, T, V
        np.testing.assert_allclose(steps, expected.numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("cls", CORES)
def test_what_is_generated_is_what_the_model_says_of_the_whole_text(cls: type[Model]) -> None:
    generator, prompt = built(cls), np.array([1, 2, 3])
    varied = 0
    for seed in range(60):
        draw = torch.Generator().manual_seed(seed)
        for weight in generator.parameters():
            weight.data.normal_(0, 3, generator=draw)  # so that the output does not repeat one symbol for ever
        greedy = [tokens[0] for tokens in generate(generator, prompt, 30, temperature=1e-6)]
        predicted = generator(torch.tensor([[*prompt.tolist(), *greedy]]))[0][0, len(prompt) - 1 : -1]
        predicted[:, 0] = -torch.inf
        assert greedy == predicted.argmax(-1).tolist()
        varied += len(set(greedy)) > 1
    assert varied


@pytest.mark.parametrize("input", INPUTS)
@pytest.mark.parametrize("clip", [1e-3, 1e3])
@pytest.mark.parametrize("cls", CORES)
def test_one_token_is_read_and_differentiated_as_a_batch_of_one(cls: type[Model], clip: float, input: str) -> None:
    for by in (Generator.single_token, AutogradToken):
        generator, twin = built(cls, input=input), built(cls, input=input)
        single = by(generator)
        single.begin(None, np.random.default_rng(0))
        state = None
        for token, target in ((3, 5), (7, 3)):  # the second continues from a state, and overwrites another gradient
            nll, norm = single.forward(token, target), single.backward(clip)
            twin.zero_grad()
            predicted, state = twin(torch.tensor([[token]]), None if state is None else tuple(s.detach() for s in state))
            loss = F.cross_entropy(predicted[:, 0], torch.tensor([target]))
            loss.backward()
            assert norm == pytest.approx(torch.nn.utils.clip_grad_norm_(twin.parameters(), clip).item(), abs=1e-12)
            assert nll == pytest.approx(loss.item(), abs=1e-12)
            for ours, theirs in zip(generator.parameters(), twin.parameters(), strict=True):
                torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-12)
        torch.testing.assert_close(single.state, tuple(s.detach() for s in state), rtol=0, atol=1e-12)  # type: ignore[union-attr]


@pytest.mark.parametrize("cls", CORES)
def test_a_token_whose_state_is_not_finite_is_followed_by_one_from_zeros(cls: type[Model]) -> None:
    for by in (Generator.single_token, AutogradToken):
        single = by(built(cls))
        _, state = built(cls)(TOKENS[:1])
        single.begin(tuple(torch.full_like(s, torch.nan) for s in state), np.random.default_rng(0))
        assert math.isnan(single.forward(1, 2))
        single.reset_if_not_finite()
        assert all(not s.any() for s in single.state)
        assert math.isfinite(single.forward(1, 2))


@pytest.mark.parametrize(("input", "vocab_size"), [("embedding", V), ("onehot", V), ("onehot", 300)])
@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("cls", [LSTM, GRU])
def test_its_onnx_graph_is_the_model(cls: type[Model], num_layers: int, input: str, vocab_size: int) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install -e '.[export]'")
    from throughline.runs.onnx_step import build, largest_difference

    generator = built(cls, vocab_size, torch.float32, num_layers=num_layers, input=input)
    for weight in generator.parameters():
        weight.data *= 3  # so that gates open and close
    graph = build(generator, "")
    assert largest_difference(generator, graph) < 1e-4
    with torch.no_grad():
        generator.core.weight_hh_l0 *= 1.1
    assert largest_difference(generator, graph) > 1e-3  # another model differs, so this can fail


@pytest.mark.parametrize("cls", [cls for cls in CORES if cls not in (LSTM, GRU)])
def test_a_core_without_a_graph_is_exported_as_weights_alone(cls: type[Model], tmp_path: Any) -> None:
    generator = saved(tmp_path / "model.ckpt", cls(hidden_size=4), Characters(list("abc")))
    with pytest.raises(UserError, match=r"^onnx: there is no graph for the core \w+; give onnx=false$"):
        export(asked(tmp_path / "model.ckpt"))
    export(asked(tmp_path / "model.ckpt", onnx=False))
    again = load(tmp_path / "model.safetensors").generator
    assert torch.equal(generator(TOKENS[:, :9] % 4)[0], again(TOKENS[:, :9] % 4)[0])


CHOSEN = (
    "regime.streams=4",
    "regime.bptt=16",
    "trainer.max_epochs=2",
    "trainer.log_every_n_steps=5",
    "trainer.checkpoint_seconds=1e-9",
)


def choice(cls: type[Model]) -> str:
    return f"model={word(cls)}256"


@pytest.mark.parametrize("cls", CORES)
def test_a_killed_run_resumes_bit_for_bit(cls: type[Model], corpus: Corpus, tmp_path: Any) -> None:
    chosen = (choice(cls), *CHOSEN, "model.dropout=0.3", "model.num_layers=2")
    (tmp_path / "alone").mkdir()
    run(corpus, tmp_path / "alone", *chosen)
    run_with_kills(corpus, tmp_path / "killed", [("on_train_batch_end", 20), ("on_train_batch_end", 3)], *chosen)
    assert weights_hash(tmp_path / "killed") == weights_hash(tmp_path / "alone")
    assert column(tmp_path / "killed", "val/nll") == column(tmp_path / "alone", "val/nll")


@pytest.mark.parametrize("cls", [cls for cls in CORES if cls is not LSTM])  # LSTM: tests/training/test_processes.py
def test_two_processes_train_as_one(cls: type[Model], corpus: Corpus, tmp_path: Any) -> None:
    for devices in (1, 2):
        (tmp_path / str(devices)).mkdir()
        run(corpus, tmp_path / str(devices), choice(cls), *CHOSEN, "trainer.precision=64-true", f"trainer.devices={devices}")
    one, two = (rows(tmp_path / str(devices)) for devices in (1, 2))
    assert len(one) == len(two) > 4
    for mine, yours in zip(one, two, strict=True):
        for key in ("train/nll", "train/grad_norm", "val/nll"):
            assert bool(mine[key]) == bool(yours[key])
            assert not mine[key] or abs(float(mine[key]) - float(yours[key])) < 1e-11


@pytest.mark.parametrize("cls", CORES)
def test_updates_after_single_tokens_are_those_of_batches_of_one(cls: type[Model], tmp_path: Any) -> None:
    corpus = corpus_of("the quick brown fox. " * 3, "the quick brown fox. ")
    exact = (choice(cls), "trainer.precision=64-true", "schedule=constant", "trainer.max_epochs=2")
    for name, regime in (
        ("ours", ("regime=onestep", "regime.updates=10")),
        ("expected", ("regime.streams=1", "regime.bptt=1", "regime.reset_probability=0")),
    ):
        (tmp_path / name).mkdir()
        summary = run(corpus, tmp_path / name, *exact, *regime)
        assert summary["updates"] == summary["tokens"] == 2 * corpus.train.num_targets
    ours, expected = (column(tmp_path / name, "val/nll") for name in ("ours", "expected"))
    assert ours == pytest.approx(expected, abs=1e-11)
    assert ours[0] != ours[-1]


def test_what_is_written_by_hand_for_an_lstm_is_not_taken_for_a_subclass_of_it() -> None:
    class Scaled(LSTMCore):
        def forward(self, x: Any, state: Any = None) -> Any:
            output, after = super().forward(x, state)
            return 2 * output, after

    class Cold(CategoricalHead):
        def forward(self, output: Any) -> Any:
            return 2 * super().forward(output)

    for part, new in (("core", Scaled(5, 6, 2)), ("head", Cold(6, V))):
        generator = built(LSTM)
        setattr(generator, part, new.double())
        _, state = generator(TOKENS[:1])
        assert isinstance(generator.stepper(state, 3), TorchStepper)
        assert isinstance(generator.single_token(), AutogradToken)
