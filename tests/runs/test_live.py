"""A sequence that is put away and taken up again is, bit for bit, the one that was never interrupted."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from helpers import asked, roll, saved
from throughline.commands.export import export
from throughline.data.codecs import Codec
from throughline.data.codecs.characters import Characters
from throughline.data.codecs.frames import Frames
from throughline.data.codecs.words import Words
from throughline.evaluation.scoring import scored
from throughline.model.settings import GRU, LSTM, Model
from throughline.plumbing.errors import UserError
from throughline.runs.live import BLOCK, Live
from throughline.runs.trained import Trained, load

TEXT = Characters(list("\n abcdefgh"))
ENDED = Characters(list("abc"), ended=True)
MODELS: list[tuple[Model, Codec]] = [
    (LSTM(hidden_size=8), TEXT),
    (LSTM(hidden_size=8, num_layers=2, input="onehot"), TEXT),
    (GRU(hidden_size=8), TEXT),
    (LSTM(hidden_size=8), ENDED),
    (GRU(hidden_size=8), Words(symbols=["a", "b", "<eos>"])),
]


@pytest.fixture(params=range(len(MODELS)))
def trained(request: pytest.FixtureRequest, tmp_path: Path) -> Trained:
    model, codec = MODELS[request.param]
    saved(tmp_path / "model.ckpt", model, codec)
    return load(tmp_path / "model.ckpt")


def ids(trained: Trained, number: int) -> list[int]:
    known = trained.codec.size - (trained.codec.end is not None)
    drawn: list[int] = np.random.default_rng(0).integers(1, known, number).tolist()
    return drawn


@pytest.mark.parametrize("cut", [1, 7, 49])
def test_what_is_read_in_two_parts_is_what_is_read_at_once(trained: Trained, cut: int, tmp_path: Path) -> None:
    steps = ids(trained, 50)
    whole = trained.live()
    at_once = list(whole.read(steps))
    first = trained.live()
    begun = list(first.read(steps[:cut]))
    first.save(tmp_path / "state.safetensors")
    second = trained.live(tmp_path / "state.safetensors")
    assert begun + list(second.read(steps[cut:])) == at_once  # bit for bit
    assert len(at_once) == 50 - (trained.codec.end is None)
    assert all(torch.equal(a, b) for a, b in zip(second.state, whole.state, strict=True))
    assert (second.steps, second.last) == (whole.steps, steps[-1])


def test_its_nll_is_that_of_the_module(trained: Trained) -> None:
    steps = ids(trained, 50)
    given = steps if trained.codec.end is None else [trained.codec.end, *steps]
    tokens = torch.tensor([given])
    with torch.inference_mode():
        nll, _ = trained.generator.nll(tokens[:, :-1], tokens[:, 1:])
    np.testing.assert_allclose(list(trained.live().read(steps)), nll[0].numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("draws", [{"temperature": 0.8}, {"temperature": 0.0}, {"top_k": 3, "min_p": 0.05}])
def test_what_is_written_in_two_parts_is_what_is_written_at_once(trained: Trained, draws: Any, tmp_path: Path) -> None:
    length = 40

    def written(live: Live, number: int, seed: int | None) -> list[int]:
        found: list[int] = []
        while len(found) < number:  # a sequence with an end is followed by the next one
            drawn = list(live.write(number - len(found), seed, **draws))
            found += drawn if len(drawn) == number - len(found) else [*drawn, -1]  # an end
            seed = None
        return found

    at_once = written(trained.live(), length, 5)
    first = trained.live()
    begun = written(first, 13, 5)
    first.save(tmp_path / "state.safetensors")
    assert begun + written(trained.live(tmp_path / "state.safetensors"), length - 13, None) == at_once
    other = written(trained.live(), length, 6)
    assert (other == at_once) == (draws.get("temperature") == 0.0)


def test_draws_go_on_over_the_end_of_a_block(tmp_path: Path) -> None:
    saved(tmp_path / "model.ckpt", LSTM(hidden_size=4), TEXT)
    trained = load(tmp_path / "model.ckpt")
    at_once = list(trained.live().write(2 * BLOCK + 9, 3))
    live, found = trained.live(), list[int]()
    for number, length in enumerate((BLOCK - 1, 1, 1, BLOCK, 8)):
        found += live.write(length, 3 if number == 0 else None)
        live.save(tmp_path / "state.safetensors")
        live = trained.live(tmp_path / "state.safetensors")
    assert found == at_once
    assert at_once[:BLOCK] != at_once[BLOCK : 2 * BLOCK]


def test_frames_are_read_and_written_as_well(tmp_path: Path) -> None:
    saved(tmp_path / "model.ckpt", LSTM(hidden_size=8), Frames(kind="multi_hot", features=5))
    trained = load(tmp_path / "model.ckpt")
    frames = np.random.default_rng(0).integers(0, 2, (20, 5)).astype(np.uint8)
    whole, first = trained.live(), trained.live()
    at_once = list(whole.read(frames))
    begun = list(first.read(frames[:9]))
    first.save(tmp_path / "state.safetensors")
    second = trained.live(tmp_path / "state.safetensors")
    assert begun + list(second.read(frames[9:])) == at_once
    np.testing.assert_allclose(at_once, trained.score(frames), rtol=1e-5)
    assert np.array_equal(np.stack([*second.write(5, 1)]), np.stack([*whole.write(5, 1)]))


@pytest.mark.parametrize("joined", [False, True])
def test_after_an_end_the_next_sequence_begins_from_zeros_unless_they_are_joined(joined: bool, tmp_path: Path) -> None:
    saved(tmp_path / "model.ckpt", LSTM(hidden_size=8), ENDED, data={"joined": joined})
    trained, end = load(tmp_path / "model.ckpt"), ENDED.end or 0
    fresh = list(trained.live().read([1, 2, 3]))
    live = trained.live()
    assert live.at_beginning
    list(live.read([2, 2, end]))
    assert live.at_beginning
    assert (list(live.read([1, 2, 3])) == fresh) != joined
    live.save(tmp_path / "state")
    live = trained.live(tmp_path / "state")  # its stepper was built from another state than zeros
    list(live.read([end]))
    assert (list(live.read([1, 2, 3])) == fresh) != joined
    live.begin()
    tokens = torch.tensor([[end, 1, 2, 3, end, 1, 2, 3]])
    with torch.inference_mode():
        nll, _ = trained.generator.nll(tokens[:, :-1], tokens[:, 1:])
    whole = list(trained.live().read([1, 2, 3, end, 1, 2, 3]))
    assert (whole == pytest.approx(nll[0].tolist(), abs=1e-5)) == joined


@pytest.mark.parametrize("joined", [False, True])
def test_frames_begin_anew_as_in_training(joined: bool, tmp_path: Path) -> None:
    corpus = roll()
    codec = corpus.codec
    saved(tmp_path / "model.ckpt", LSTM(hidden_size=8), codec, data={"joined": joined})
    trained, line = load(tmp_path / "model.ckpt"), replace(corpus.val, joined=joined)
    live, found = trained.live(), list[float]()
    for first, last in itertools.pairwise([0, *line.ends.tolist()]):
        assert live.at_beginning
        found += live.read(line.steps[first + 1 : last])
        found.append(live.close(line.steps[last]))
        if last == line.ends[3]:
            live.save(tmp_path / "state")
            live = trained.live(tmp_path / "state")
    scores = [part.nll for part in scored(trained.generator, line)]
    np.testing.assert_allclose(found, np.concatenate(scores), rtol=0, atol=1e-5)
    assert len(found) == line.num_targets > 100


@pytest.mark.parametrize("wrong", [-1, 11, [1, 2], 1.7, "a"])
def test_what_is_no_step_is_refused(wrong: Any, tmp_path: Path) -> None:
    saved(tmp_path / "model.ckpt", LSTM(hidden_size=8), TEXT)
    live = load(tmp_path / "model.ckpt").live()
    list(live.read([9]))
    with pytest.raises(UserError, match=r"^read: .* is no step of this checkpoint; allowed are ids from 0 to 10$"):
        list(live.read([wrong]))
    assert live.steps == 1
    with pytest.raises(UserError, match=r"^close: is for sequences of frames"):
        live.close(1)
    with pytest.raises(UserError, match=r"^begin: the texts of this checkpoint have no ends"):
        live.begin()
    saved(tmp_path / "frames.ckpt", LSTM(hidden_size=8), Frames(kind="multi_hot", features=2))
    frames = load(tmp_path / "frames.ckpt").live()
    with pytest.raises(UserError, match=r"allowed are frames of 2 finite numbers$"):
        list(frames.read([[np.nan, 1]]))
    with pytest.raises(UserError, match=r"^begin: "):
        frames.begin()


def test_an_export_and_a_checkpoint_of_before_know_whether_data_were_joined(tmp_path: Path) -> None:
    for number, data in enumerate(({"joined": True}, {"source": {"joined": True}}, {"joined": False}, {})):
        saved(tmp_path / "model.ckpt", LSTM(hidden_size=8), ENDED, data=data)
        export(asked(tmp_path / "model.ckpt", onnx=False, html=True))
        for name in ("model.ckpt", "model.safetensors"):
            assert load(tmp_path / name).live().joined == (number < 2)
        assert ('"joined":true' in (tmp_path / "model.html").read_text()) == (number < 2)


def test_the_exported_graph_goes_on_from_the_same_file(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install -e '.[export]'")
    saved(tmp_path / "model.ckpt", LSTM(hidden_size=8, num_layers=2), TEXT)
    export(asked(tmp_path / "model.ckpt"))
    live = load(tmp_path / "model.ckpt").live()
    list(live.read([3, 4, 5]))
    live.save(tmp_path / "state.safetensors")
    state = safetensors.torch.load_file(tmp_path / "state.safetensors")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    inputs = {"token": np.array([[6]]), "h": state["h"].numpy(), "c": state["c"].numpy()}
    logits = session.run(["logits"], inputs)[0]
    list(live.read([6]))
    live.save(tmp_path / "after.safetensors")
    np.testing.assert_allclose(logits, safetensors.torch.load_file(tmp_path / "after.safetensors")["predicted"], atol=1e-5)


def test_a_file_that_is_no_state_of_this_model_is_one_line(tmp_path: Path) -> None:
    saved(tmp_path / "model.ckpt", LSTM(hidden_size=8), TEXT)
    trained, state = load(tmp_path / "model.ckpt"), tmp_path / "state.safetensors"
    with pytest.raises(UserError, match=r"^state_out=.*: nothing was read yet, so there is no state; give a prompt$"):
        trained.live().save(state)
    live = trained.live()
    list(live.read([1, 2]))
    live.save(state)
    content = state.read_bytes()
    for damaged, line in {
        b"": "is no state of throughline, or damaged; give a file of state_out",
        content[:-3]: "is no state of throughline, or damaged; give a file of state_out",
        content.replace(b'\\"format\\": 2', b'\\"format\\": 1'): "is no state of throughline, or damaged",
        content.replace(b'\\"seed\\": 0', b'\\"seed\\":-1'): "is no state of throughline, or damaged",
        content.replace(b'"h"', b'"g"'): "damaged, it does not fit the model; give another file of state_out",
        content.replace(b'\\"tail\\": [1, 2]', b'\\"tail\\": [1,99]'): "damaged, it does not fit the model",
        content[:-4] + b"\xff\xff\xff\xff": "damaged, it does not fit the model",
    }.items():
        assert damaged != content
        state.write_bytes(damaged)
        with pytest.raises(UserError, match=f"^state={state}: {line}"):
            trained.live(state)
    state.write_bytes(content)
    torch.manual_seed(9)
    saved(tmp_path / "other.ckpt", LSTM(hidden_size=8), Characters(list("\n abcdefgi")))
    other = load(tmp_path / "other.ckpt")
    with torch.no_grad():
        other.generator.head.bias += 1  # type: ignore[operator, union-attr]
    with pytest.raises(UserError, match=r"or of other weights; give the checkpoint that wrote it$"):
        other.live(state)
    with pytest.raises(UserError, match=r"^state=.*none: No such file or directory; give a file of state_out$"):
        trained.live(tmp_path / "none")
