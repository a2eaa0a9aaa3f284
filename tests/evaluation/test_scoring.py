"""The score of every step against the same by hand, and what the state was meanwhile."""

import numpy as np
import pytest
import torch

from throughline.data.codecs.characters import Characters
from throughline.data.line import Line
from throughline.evaluation import scoring
from throughline.evaluation.measure import measure
from throughline.evaluation.readings.carried import Carried
from throughline.evaluation.scoring import Calibration, Scores, scored, traced
from throughline.model.generator import Generator
from throughline.model.settings import GRU, LSTM


def a_line(*lengths: int, joined: bool = False) -> Line:
    rng = np.random.default_rng(0)
    return Line.with_ends([rng.integers(1, 8, n).astype(np.uint8) for n in lengths], 8, joined)


LINES = {
    "a text": Line.of([np.random.default_rng(1).integers(1, 9, 40).astype(np.uint8)]),
    "sequences": a_line(3, 0, 7, 1),
    "sequences, joined": a_line(3, 0, 7, joined=True),
}


@pytest.mark.parametrize("steps", [1, 5, 1024])
@pytest.mark.parametrize("kind", LINES)
def test_scores_are_those_by_hand(kind: str, steps: int, model: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "STEPS", steps)
    line = LINES[kind]
    scores = Scores.joined(list(scored(model, line, count=3)))
    assert scores.place.tolist() == list(range(1, len(line.steps)))  # every target once, in order
    for first, last in zip(line.edges[:-1].tolist(), line.edges[1:].tolist(), strict=True):
        tokens = torch.from_numpy(line.steps[first : last + 1].astype(np.int64))
        with torch.inference_mode():
            shares = model(tokens[None, :-1])[0][0].softmax(-1)
        for k, target in enumerate(tokens[1:].tolist()):
            number = first + k
            assert scores.nll[number] == pytest.approx(-shares[k, target].log().item(), abs=1e-12)
            assert scores.rank[number] == 1 + int((shares[k] > shares[k, target]).sum())
            best = sorted(range(9), key=lambda id: -shares[k, id].item())[:3]
            assert scores.likeliest[number].tolist() == best
            assert scores.probability[number] == pytest.approx(shares[k, best].numpy(), abs=1e-12)
    assert measure(model, line, [Carried()])["val/nll"] == pytest.approx(float(scores.nll.mean()), abs=1e-12)


@pytest.mark.parametrize("settings", [LSTM, GRU])
@pytest.mark.parametrize("kind", LINES)
def test_states_are_those_after_each_target(kind: str, settings: type[LSTM] | type[GRU]) -> None:
    torch.manual_seed(0)
    model = Generator(settings(hidden_size=4, num_layers=2, embedding_size=5), vocab_size=9).double().eval()
    line = LINES[kind]
    places = np.array([1, 2, 3, 4, 5, 11, len(line.steps) - 1])
    states = traced(model, line, places)
    assert {name: values.shape for name, values in states.items()} == dict.fromkeys(model.core.state_names, (7, 2, 4))
    for number, place in enumerate(places.tolist()):
        first = max(edge for edge in line.edges.tolist() if edge < place)
        last = place if line.joined or place not in line.ends else place - 1  # an end is not read
        tokens = torch.from_numpy(line.steps[first : last + 1].astype(np.int64))
        with torch.inference_mode():
            _, state = model(tokens[None])
        for name, own in zip(model.core.state_names, state, strict=True):
            expected = own[:, 0] if name == "h" else own[:, 0].tanh()
            assert states[name][number] == pytest.approx(expected.numpy(), abs=1e-9)


def test_a_calibration_by_hand() -> None:
    confidence = np.array([0.05, 0.95, 0.92, 0.55, 1.0])
    rank = np.array([2, 1, 3, 1, 1])
    nothing = np.zeros(5)
    calibration = Calibration.of(Scores(nothing, nothing, rank, np.ones((5, 1), int), confidence[:, None]))
    assert calibration.count.tolist() == [1, 0, 0, 0, 0, 1, 0, 0, 0, 3]
    assert calibration.confidence[[0, 5, 9]] == pytest.approx([0.05, 0.55, (0.95 + 0.92 + 1) / 3])
    assert calibration.correct[[0, 5, 9]] == pytest.approx([0, 1, 2 / 3])
    assert np.isnan(calibration.correct[1])
    assert calibration.error == pytest.approx((0.05 + 0.45 + 3 * (2.87 / 3 - 2 / 3)) / 5)


def test_the_worst_is_found(model: Generator) -> None:
    from throughline.results.surprise import Surprise

    codec = Characters(list("abcdefgh"))
    scores = Scores.joined(list(scored(model, LINES["a text"], count=3)))
    surprise = Surprise(scores, LINES["a text"], codec, "here", 4)
    worst = surprise.worst_places
    assert scores.nll[worst].tolist() == sorted(scores.nll.tolist(), reverse=True)[:4]
    told = [*surprise.report()][2:]
    assert told[0].startswith(f"  {scores.place[worst[0]]}: {scores.nll[worst[0]]:.2f} nats, ...")
    whole = codec.decode(LINES["a text"].steps.tolist())
    assert f"{whole[max(0, worst[0] + 1 - 24) : worst[0] + 1]}[{whole[worst[0] + 1]}]" in told[0]
    assert surprise.lead(surprise.shown(0, 5)) + "".join(surprise.pieces(surprise.shown(0, 5))) == whole[:6]
    assert surprise.pieces(surprise.shown(3, 5)) == list(whole[4:9])
