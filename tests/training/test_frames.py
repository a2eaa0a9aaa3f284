"""Runs on frames: what they leave, and that they keep all the promises of runs on symbols."""

import csv
import itertools
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib.image
import numpy as np
import onnxruntime  # type: ignore[import-untyped]
import pytest
import torch
from safetensors import safe_open

from helpers import (
    QUICK,
    SEQUENCES,
    asked,
    config,
    roll,
    rows,
    run,
    run_with_kills,
    saved,
    series,
    weights_hash,
    without_times,
)
from throughline.commands.export import export
from throughline.commands.generate import Generate, generate
from throughline.commands.train import next_steps
from throughline.config import Config, Sampling
from throughline.data.codecs.characters import Characters
from throughline.data.codecs.frames import Frames
from throughline.data.codecs.symbols import Symbols
from throughline.data.codecs.words import Words
from throughline.data.corpus import Corpus
from throughline.evaluation.measure import BySequence
from throughline.evaluation.readings.dynamic import Dynamic
from throughline.model.settings import GRU, LSTM, Bernoulli, Categorical, Mixture
from throughline.plumbing.errors import UserError
from throughline.runs.checkpoint import load_parts
from throughline.runs.trained import Trained, load

STATEFUL = ("regime.streams=4", "regime.bptt=16", "regime.rotate=true", "model.num_layers=2")


@pytest.fixture(scope="module")
def rolls(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("rolls")
    return folder, run(roll(), folder, *SEQUENCES["behind"], "trainer.max_epochs=2", "trainer.precision=64-true")


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("real")
    return folder, run(series(), folder, *STATEFUL, "trainer.max_epochs=2", "trainer.precision=64-true")


def checkpoint(finished: tuple[Path, Any]) -> str:
    return str(finished[0] / "checkpoints" / "last.ckpt")


def nll_by_hand(file: str, frames: np.ndarray) -> np.ndarray:
    """The nll of frames (N, F) given a first input of zeros, in the units of the data, by formulas written out."""
    generator, codec, _ = load_parts(file)
    steps = torch.from_numpy(codec.encode(frames).astype(np.float64))[None]
    with torch.no_grad():
        predicted, _ = generator(torch.cat([torch.zeros_like(steps[:, :1]), steps[:, :-1]], dim=1))
    if codec.steps == "multi_hot":
        share = torch.sigmoid(predicted)
        return -(steps * share.log() + (1 - steps) * (1 - share).log()).sum(-1)[0].numpy()
    K, F = 8, steps.shape[2]  # noqa: N806
    weight, mean, std = predicted[..., :K], predicted[..., K : K + K * F], predicted[..., K + K * F :]
    scale = torch.tensor(codec.std, dtype=torch.float64)  # type: ignore[attr-defined]
    mean = mean.unflatten(-1, (K, F)) * scale + torch.tensor(codec.mean, dtype=torch.float64)  # type: ignore[attr-defined]
    std = (torch.nn.functional.softplus(std.unflatten(-1, (K, F))) + 1e-3) * scale
    normal = torch.distributions.Normal(mean, std).log_prob(torch.from_numpy(frames).double()[None, :, None]).sum(-1)
    return -(weight.log_softmax(-1) + normal).logsumexp(-1)[0].numpy()


def test_a_run_on_rolls_leaves_what_it_promises(rolls: tuple[Path, dict[str, Any]]) -> None:
    folder, summary = rolls
    frames = np.load(folder / "samples.npy")
    assert (frames.shape, frames.dtype) == ((40, 5), np.uint8)
    assert set(frames.ravel().tolist()) == {0, 1}
    assert matplotlib.image.imread(folder / "samples.png").std() > 0
    assert not (folder / "samples.txt").exists()
    assert summary["data"]["steps"] == "multi_hot"
    no_figures = ("bpc", "ppl", "accuracy", "unknown")
    assert not [column for column in [*rows(folder)[0], *summary] if any(figure in column for figure in no_figures)]
    terminal = (folder / "terminal.txt").read_text(encoding="utf-8")
    assert "frames of 5 features, multi-hot" in terminal
    assert "head=" not in terminal
    assert " nats per frame, " in terminal


ANOTHER = r"^data: memory was encoded with another codec than that of the generator; "


def test_symbols_of_another_table_are_not_measured(tmp_path: Path) -> None:
    table = Symbols().fit([["a", "b"]])
    saved(tmp_path / "last.ckpt", LSTM(hidden_size=2), table)
    trained = load(tmp_path / "last.ckpt")
    for same in (table, replace(table, between=", ")):  # shown in another way, and the same steps
        assert math.isfinite(trained.evaluate(Corpus.of(same, [["a", "b"]], [["b", "a"]]))["val/nll"])
    for other in (Symbols().fit([["b", "c"]]), Symbols().fit([["b", "a", "c"]]), Words().fit(["a b"])):
        with pytest.raises(UserError, match=ANOTHER):
            trained.evaluate(Corpus.of(other, *[["b b b" if other.reads == "text" else ["b"] * 3]] * 2))


def test_data_of_another_codec_are_not_measured(real: tuple[Path, dict[str, Any]]) -> None:
    trained, corpus = load(checkpoint(real)), series()
    assert trained.evaluate(corpus)["val/nll"] == pytest.approx(real[1]["val/nll"], abs=1e-6)
    values = trained.codec.raw(corpus.val.steps)  # type: ignore[attr-defined]
    own = Corpus.of(trained.codec, [values], [values], ended=True, joined=False)
    assert math.isfinite(trained.evaluate(own)["val/nll"])
    for codec, sequence in ((Frames(), 2 * values), (Frames(), values[:, :1]), (Characters(), "abcabc")):
        other = Corpus.of(codec, [sequence], [sequence])
        with pytest.raises(UserError, match=ANOTHER):
            trained.evaluate(other)


def test_a_score_is_of_frames(real: tuple[Path, dict[str, Any]]) -> None:
    trained = load(checkpoint(real))
    assert trained.score(np.zeros((0, 2))) == trained.score(np.zeros((1, 2))) == []
    assert len(trained.score(np.zeros((2, 2)))) == 1
    with pytest.raises(UserError, match=r"^text='abc': this checkpoint scores frames; give an array \(N, F\)$"):
        trained.score("abc")


def test_the_next_command_generates_an_array(real: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    done: Any = SimpleNamespace(folder=real[0], codec=load(checkpoint(real)).codec)
    line = next(next_steps(done, Config(sampling=Sampling(length=7)), sweep=False))
    assert line.endswith(" length=7 out=new.npy")
    generate(Generate(checkpoint=checkpoint(real), length=7, out=str(tmp_path / "new.npy")))
    assert np.load(tmp_path / "new.npy").shape == (7, 2)


def test_the_nll_of_rolls_is_that_of_the_field(rolls: tuple[Path, dict[str, Any]]) -> None:
    corpus = roll()
    line = corpus.val
    by_hand = [
        nll_by_hand(checkpoint(rolls), line.steps[first + 1 : last + 1])
        for first, last in zip(line.edges[:-1], line.edges[1:], strict=True)
    ]
    assert rolls[1]["val/nll"] == pytest.approx(np.concatenate(by_hand).mean(), abs=1e-6)
    after = np.concatenate([nll[1:] for nll in by_hand])
    assert rolls[1]["val/nll_after_first"] == pytest.approx(after.mean(), abs=1e-6)
    assert abs(after.mean() - np.concatenate(by_hand).mean()) > 1e-3
    trained, scores = load(checkpoint(rolls)), BySequence(line)
    metrics = trained.evaluate(corpus, by_sequence=scores, readings=[Dynamic(lr=0.0)])
    assert metrics["val/nll"] == pytest.approx(rolls[1]["val/nll"], abs=1e-9)
    assert metrics["val/nll_dynamic"] == pytest.approx(metrics["val/nll"], abs=1e-6)
    assert [row[1] for row in scores.rows()] == pytest.approx([nll.sum() for nll in by_hand], abs=1e-5)
    assert trained.score(line.steps[1 : line.ends[0] + 1]) == pytest.approx(by_hand[0], abs=1e-6)


def test_the_nll_of_a_series_is_in_its_own_units(real: tuple[Path, dict[str, Any]]) -> None:
    folder, summary = real
    codec = load(checkpoint(real)).codec
    assert isinstance(codec, Frames)
    values = codec.encode(np.zeros((0, 2))), series().val.steps.astype(np.float64) * codec.std + codec.mean
    by_hand = nll_by_hand(checkpoint(real), values[1])  # its first input is zeros; that of the line is the first frame
    with torch.no_grad():
        steps = torch.from_numpy(series().val.steps)[None]
        ours = load(checkpoint(real)).generator.nll(steps[:, :-1], steps[:, 1:])[0].mean()
    assert summary["val/nll"] == pytest.approx(float(ours), abs=1e-6)
    assert summary["val/nll"] == pytest.approx(by_hand[1:].mean(), abs=0.05)  # they differ in their first input alone
    assert not [column for column in rows(folder)[0] if column.startswith("val/") and not column.startswith("val/nll")]
    assert np.load(folder / "samples.npy").dtype == np.float32
    assert abs(np.load(folder / "samples.npy")[:, 0].mean() - 300) < 100
    shape = matplotlib.image.imread(folder / "samples.png").shape
    assert shape[0] > 400


@pytest.mark.parametrize("way", ["behind", "onestep", "padded"])
def test_a_killed_run_on_rolls_goes_on_bit_for_bit(way: str, tmp_path: Path) -> None:
    chosen = (*SEQUENCES[way], *QUICK, "trainer.val_check_interval=7")
    assert_killed_is_alone(roll(), tmp_path, chosen)


def test_a_killed_run_on_a_series_goes_on_bit_for_bit_with_workers(tmp_path: Path) -> None:
    assert_killed_is_alone(
        series(), tmp_path, (*STATEFUL, *QUICK, "trainer.val_check_interval=7"), ("trainer.num_workers=2",)
    )


def assert_killed_is_alone(corpus: Corpus, tmp_path: Path, chosen: tuple[str, ...], last: tuple[str, ...] = ()) -> None:
    (tmp_path / "alone").mkdir()
    run(corpus, tmp_path / "alone", *chosen)
    kills = [("on_train_batch_end", 9), ("on_train_batch_end", 3), ("on_validation_batch_end", 1)]
    run_with_kills(corpus, tmp_path / "killed", kills, *chosen, last_life=last)
    assert weights_hash(tmp_path / "killed") == weights_hash(tmp_path / "alone")
    assert without_times(tmp_path / "killed") == without_times(tmp_path / "alone")
    for name in ("samples.npy", "samples.png"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()


@pytest.mark.parametrize("model", [LSTM(hidden_size=6, num_layers=2), GRU(hidden_size=6)])
@pytest.mark.parametrize("corpus", [roll(), series()], ids=["roll", "series"])
def test_frames_are_generated_as_they_are_read(model: Any, corpus: Corpus) -> None:
    """What is drawn step by step at temperature 0 is what the whole sequence predicts."""
    from throughline.model.generator import Generator

    torch.manual_seed(0)
    head = config().suited(corpus.codec).head
    trained = Trained(Generator(model, corpus.codec.size, head).double().eval(), corpus.codec)
    assert isinstance(corpus.codec, Frames)
    prompt = corpus.codec.raw(corpus.train.steps[1:6])
    frames = trained.generate(prompt, 7, temperature=0.0)
    assert frames.shape == (12, corpus.codec.size)
    np.testing.assert_allclose(frames[:5], prompt, rtol=1e-6)
    steps = torch.from_numpy(corpus.codec.prompt(frames).astype(np.float32))[None]
    with torch.no_grad():
        predicted, _ = trained.generator(steps[:, :-1])
    draw = trained.generator.head.sampler(np.random.default_rng(0), 1, 0.0, None, None)
    again = corpus.codec.raw(draw(predicted[0, -7:].numpy()))
    np.testing.assert_allclose(frames[5:], again, rtol=1e-5, atol=1e-6)
    several = trained.frames(70, length=3, seed=0)
    assert several.shape == (70, 3, corpus.codec.size)
    assert not np.array_equal(several[0], several[1])
    np.testing.assert_array_equal(several, trained.frames(70, length=3, seed=0))


def test_generate_writes_an_array_and_a_picture(rolls: tuple[Path, Any], tmp_path: Path) -> None:
    np.save(tmp_path / "prompt.npy", np.eye(5))
    out, prompt = str(tmp_path / "new.npy"), str(tmp_path / "prompt.npy")
    generate(Generate(checkpoint=checkpoint(rolls), length=200, out=out, prompt=prompt, seed=1))
    frames = np.load(out)
    assert frames.shape == (205, 5)
    np.testing.assert_array_equal(frames[:5], np.eye(5))
    assert (tmp_path / "new.png").read_bytes().startswith(b"\x89PNG")
    generate(Generate(checkpoint=checkpoint(rolls), length=4, out=out, num_sequences=3, seed=1))
    assert np.load(out).shape == (3, 4, 5)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"length": 5}, r"^out: this checkpoint generates frames, .*; give out=FILE.npy$"),
        ({"length": 5, "out": "x.csv", "format": "csv"}, r"^out=x.csv: this checkpoint generates frames"),
        ({"out": "x.npy"}, r"^length: frames have no end; give length="),
        ({"out": "x.npy", "length": 5, "top_k": 3}, r"^top_k=3: is for symbols, and this checkpoint generates frames"),
        ({"out": "x.npy", "length": 5, "stop": "a"}, r"^stop=a: is for symbols"),
        ({"out": "x.npy", "max_length": 5}, r"^max_length=5: is for symbols"),
        ({"out": "x.npy", "length": 5, "prompt": "C E G"}, r"^prompt=C E G: .*; give a readable file$"),
        ({"out": "x.npy", "length": 5, "prompt": "NARROW"}, r"^prompt: frames of 2 features, and codec=frames has 5$"),
        ({"out": "x.npy", "length": 5, "prompt": "TWOS"}, r"^prompt: row 0, feature 0 is 2; allowed are 0 and 1$"),
        (
            {"out": "x.npy", "length": 5, "prompt": "CUBE"},
            r"^prompt: an array of float64 with shape \(2, 3, 5\); frames are",
        ),
        ({"out": "nowhere/\0x.npy", "length": 5}, r"character that no path can hold"),
    ],
)
def test_what_is_no_request_for_frames_is_refused(
    settings: dict[str, Any], line: str, rolls: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, array in (("NARROW", np.ones((3, 2))), ("TWOS", np.full((3, 5), 2)), ("CUBE", np.ones((2, 3, 5)))):
        np.save(tmp_path / f"{name}.npy", array)
        if settings.get("prompt") == name:
            settings = {**settings, "prompt": f"{name}.npy"}
    with pytest.raises((UserError, ValueError), match=line):
        generate(Generate(checkpoint=checkpoint(rolls), **settings))
    assert not list(tmp_path.glob("x*"))


def test_an_export_scores_in_the_units_of_the_data(real: tuple[Path, Any], tmp_path: Path) -> None:
    export(asked(Path(checkpoint(real)), out=str(tmp_path), onnx=False))
    trained, exported = load(checkpoint(real)), load(tmp_path / "model.safetensors")
    frames = np.array([[300.0, 0.0], [301.0, 0.01], [302.0, -0.01]])
    assert trained.score(frames) == exported.score(frames)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert float(file.get_tensor("head.log_volume")) == pytest.approx(trained.codec.log_volume, abs=1e-12)
    assert trained.codec.log_volume != 0


@pytest.mark.parametrize(("made", "layers"), [("rolls", 1), ("real", 2)])
def test_a_graph_predicts_frames(made: str, layers: int, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    file = checkpoint(request.getfixturevalue(made))
    export(asked(Path(file), out=str(tmp_path)))
    trained = load(file)
    frames = trained.generate(length=20, seed=1)
    steps = trained.codec.prompt(frames).astype(np.float32)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    assert [part.name for part in session.get_inputs()] == ["frame", "h", "c"]
    state = [np.zeros((layers, 1, trained.generator.settings.hidden_size), np.float32)] * 2
    nll = []
    for frame, following in itertools.pairwise(steps):
        predicted, *state = session.run(None, {"frame": frame[None, None], "h": state[0], "c": state[1]})
        scored = trained.generator.head.nll(torch.from_numpy(predicted)[None], torch.from_numpy(following)[None, None])
        nll.append(float(scored))
    assert nll == pytest.approx(trained.score(frames), abs=1e-4)
    assert len(nll) >= 19
    assert max(nll) - min(nll) > 1e-3  # the state matters


@pytest.mark.parametrize(
    ("settings", "corpus", "line"),
    [
        (
            {"head": Categorical()},
            roll(),
            r"^head=categorical: predicts symbols, and the data are multi-hot frames; .*bernoulli$",
        ),
        ({"head": Mixture()}, roll(), r"^head=mixture: predicts real frames, and the data are multi-hot frames; leave"),
        ({"head": Bernoulli()}, series(), r"^head=bernoulli: predicts multi-hot frames, and the data are real frames; "),
        ({"head": Mixture()}, None, r"^head=mixture: predicts real frames, and the data are symbols; .* head=categorical$"),
        (
            {"model": LSTM(input="onehot")},
            roll(),
            r"^model.input=onehot: is for symbols, and the data are multi-hot frames; ",
        ),
        (
            {"model": LSTM(hidden_size=64, tie_weights=True)},
            series(),
            r"^model.tie_weights=True: is for symbols, and the data are real frames; leave it out$",
        ),
    ],
)
def test_a_head_that_does_not_suit_the_data_is_refused(settings: dict[str, Any], corpus: Corpus | None, line: str) -> None:
    codec = Characters(["a"]) if corpus is None else corpus.codec
    with pytest.raises(UserError, match=line):
        replace(Config(), **settings).suited(codec)
    assert Config().suited(codec).head in (Categorical(), Bernoulli(), Mixture())


def test_symbols_have_no_frames_and_frames_no_list_of_probabilities(rolls: tuple[Path, Any]) -> None:
    trained = load(checkpoint(rolls))
    with pytest.raises(UserError, match=r"^probabilities: frames have no list of them; use score$"):
        trained.probabilities("a")
    with pytest.raises(UserError, match=r"^prompt='a': this checkpoint continues frames; give an array"):
        trained.generate("a", 5)


@pytest.mark.slow
def test_the_nll_of_a_mixture_reaches_the_entropy_of_a_series(tmp_path: Path) -> None:
    """An autoregressive series of order 2 with Gaussian noise of known std: no model can be below the entropy."""
    noise = np.random.default_rng(0).normal(0, 0.5, 60_000)
    series = np.zeros(len(noise))
    for t in range(2, len(series)):
        series[t] = 1.5 * series[t - 1] - 0.8 * series[t - 2] + noise[t]
    corpus = Corpus.of(Frames(), [series[:50_000]], [series[50_000:]])
    chosen = ("model.hidden_size=32", "regime.streams=16", "regime.bptt=16", "optimizer.lr=0.01", "budget.tokens=300_000")
    summary = run(corpus, tmp_path, *chosen)
    entropy = 0.5 * math.log(2 * math.pi * math.e * 0.25)
    in_sample = 0.5 * math.log(2 * math.pi * 0.25) + (noise[50_001:] ** 2).mean() / 0.5  # of the noise that was drawn
    assert summary["val/nll"] == pytest.approx(entropy, rel=0.012)
    assert in_sample <= summary["val/nll"] < in_sample + 0.01 * entropy
    with (tmp_path / "by_position.csv").open(newline="") as file:
        assert float(next(csv.DictReader(file))["nll"]) > entropy + 0.1  # the first frame of a pass tells only half
