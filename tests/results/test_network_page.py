"""A network in a page: its logits are PyTorch's, it reads and writes as the codec does, and it fetches nothing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from helpers import asked, saved
from throughline.commands.export import export
from throughline.data.codecs import Codec
from throughline.data.codecs.bytes import Bytes
from throughline.data.codecs.characters import Characters
from throughline.data.codecs.frames import Frames
from throughline.data.codecs.ids import Ids
from throughline.data.codecs.symbols import Symbols
from throughline.data.codecs.words import Words
from throughline.model.settings import GRU, LSTM, Model
from throughline.plumbing.errors import UserError
from throughline.results.network import rounded
from throughline.runs.trained import load

FOX = Characters(sorted({*"the quick brown fox\n</script>é\U0001f98a"}))
KINDS: dict[str, tuple[Model, Codec, str]] = {
    "lstm256": (LSTM(), FOX, "the fox\n</script>é\U0001f98a Z"),
    "one-hot": (LSTM(hidden_size=12, num_layers=2, input="onehot"), Symbols(["a", "b b", "c"], between=", "), "a, b b, zz"),
    "tied": (
        LSTM(hidden_size=16, embedding_size=16, tie_weights=True),
        Words(["the", "<eos>", "cat", "<unk>"]),
        "the cat\n dog the",
    ),
    "gru": (GRU(hidden_size=12, num_layers=2), Bytes(), "aé\n"),
    "ended": (LSTM(hidden_size=12), Characters(list("abc"), ended=True), "abca"),
}
REFUSED: list[tuple[Codec, str]] = [
    (Frames(kind="multi_hot", features=2, ended=True), "the page computes lstm and gru with symbols"),
    (Ids(vocab_size=9), "the page cannot read codec=ids; allowed are characters, words"),
]


@pytest.fixture
def opened(page_of: Any, tmp_path: Path) -> Any:
    """Exports a network as a page, and opens it."""

    def of(kind: str) -> Any:
        model, codec, _ = KINDS[kind]
        saved(tmp_path / "model.ckpt", model, codec)
        export(asked(tmp_path / "model.ckpt", onnx=False, html=True))
        return page_of(tmp_path / "model.html", viewport={"width": 1280, "height": 900})

    return of


def read_back(content: bytes) -> np.ndarray:
    """Numbers of 24 bits, as the page reads them."""
    parts = np.frombuffer(content, np.uint8).reshape(-1, 3)
    return np.concatenate([np.zeros((len(parts), 1), np.uint8), parts], axis=1).reshape(-1).view("<f4")


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_pytorch_over_200_carried_steps(kind: str, opened: Any, tmp_path: Path) -> None:
    page = opened(kind)
    generator = load(tmp_path / "model.ckpt").generator
    if kind == "tied":  # its embedding is so large that a rounded digit grows; so here of the weights as the page has them
        for parameter in generator.parameters():
            parameter.data = torch.from_numpy(read_back(rounded(parameter.detach().numpy())).reshape(parameter.shape))
    ids = np.random.default_rng(0).integers(0, generator.vocab_size, 200)
    with torch.inference_mode():
        wanted = generator(torch.from_numpy(ids)[None])[0][0].numpy()
    code = "ids => { const own = new Generator(); return ids.map(id => Array.from(own.step(id))); }"
    found = page.evaluate(code, ids.tolist())
    assert np.abs(np.array(found) - wanted).max() < 1e-3
    assert np.abs(wanted[100:] - wanted[:100]).max() > 0.1


def test_the_page_of_an_lstm256_is_small(opened: Any, tmp_path: Path) -> None:
    opened("lstm256")
    assert 700_000 < (tmp_path / "model.html").stat().st_size < 1_500_000


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_is_read_and_coloured_as_by_the_codec(kind: str, opened: Any, tmp_path: Path) -> None:
    page, (_, codec, text) = opened(kind), KINDS[kind]
    trained = load(tmp_path / "model.ckpt")
    raw: Any = text.encode() if isinstance(codec, Bytes) else text.split(", ") if isinstance(codec, Symbols) else text
    ids = codec.encode(raw).tolist()
    assert page.evaluate("text => encode(text)", text) == ids
    page.fill("#prompt", text)
    page.click("#score")
    page.wait_for_selector("#stop", state="hidden")
    assert page.locator("#text span").count() == len(ids)
    nll = page.evaluate("read.map(each => each.nll)")
    live = trained.live()
    expected = list(live.read(ids))
    assert [value for value in nll if value is not None] == pytest.approx(expected, abs=1e-3)
    assert (nll[0] is None) == (codec.end is None)
    shown = page.evaluate("ids => { const own = new Pieces(); return ids.map(id => own.of(id)).join(''); }", ids)
    assert shown.replace("\u00b7", "") == codec.decode(ids)
    page.locator("#text span").nth(1).click()
    assert page.locator("#card li").count() == min(5, trained.generator.vocab_size)


@pytest.mark.parametrize("kind", KINDS)
def test_it_writes_the_same_again_with_a_seed_and_stops(kind: str, opened: Any) -> None:
    page, written = opened(kind), []
    for _ in range(2):
        page.fill("#prompt", "")
        page.fill("#length", "60")
        page.fill("#seed", "5")
        page.click("#write")
        page.wait_for_selector("#stop", state="hidden")
        written.append(page.locator("#text").inner_text())
    assert written[0] == written[1] != ""
    count = page.locator("#text span").count()
    assert 60 <= count <= 61
    assert page.evaluate("read.every(each => each.id > 0)")
    page.fill("#length", "20")
    page.click("#more")
    page.wait_for_selector("#stop", state="hidden")
    assert page.locator("#text span").count() == count + 20
    page.fill("#length", "20000")
    page.click("#more")
    page.click("#stop", timeout=5000)
    page.wait_for_selector("#stop", state="hidden")
    assert page.locator("#text span").count() <= 20000


def test_another_text_takes_the_place_of_the_one_that_is_written(opened: Any) -> None:
    page = opened("lstm256")
    for length in ("3000", "2000", "25"):
        page.fill("#length", length)
        page.click("#write")
    page.click("#more")  # has no effect while a text is written
    page.wait_for_selector("#stop", state="hidden")
    page.wait_for_timeout(100)
    assert page.locator("#text span").count() in (26, 51)  # with the opening, and perhaps more, if writing was over
    for name, typed, taken in (
        ("min-p", "7", "1"),
        ("min-p", "-1", "0"),
        ("temperature", "-3", "0"),
        ("temperature", "", "0.8"),
        ("length", "-4", "1"),
        ("length", "2.6", "3"),
        ("length", "99999999", "20000"),
        ("seed", "1.5", "2"),
    ):
        page.fill(f"#{name}", typed)
        assert page.evaluate("name => number(name)", name) == float(taken)
        assert page.input_value(f"#{name}") == taken


def test_draws_follow_the_probabilities(opened: Any) -> None:
    page = opened("lstm256")
    logits = [9.0, 0.0, 1.0, 2.0, -1.0]
    code = """([logits, temperature, minP]) => { const random = seeded(3), counts = logits.map(() => 0);
      for (let k = 0; k < 40000; k++) counts[draw(logits, temperature, minP, random)]++; return counts; }"""
    for temperature in (1.0, 0.5):
        shares = np.exp(np.array(logits[1:]) / temperature)
        found = np.array(page.evaluate(code, [logits, temperature, 0])) / 40000
        assert found[0] == 0
        assert found[1:] == pytest.approx(shares / shares.sum(), abs=0.01)
    assert page.evaluate(code, [logits, 1, 0.2])[1] == 0  # exp(-2) of the likeliest
    assert page.evaluate(code, [logits, 0, 0]) == [0, 0, 0, 40000, 0]


@given(arrays(np.float32, 20, elements=st.floats(-(2.0**99), 2.0**99, width=32)))
def test_numbers_of_24_bits_are_the_nearest(values: np.ndarray) -> None:
    found = read_back(rounded(values))
    assert np.all(np.abs(found - values) <= np.abs(values) * 2.0**-16 + 1e-38)


@pytest.mark.parametrize(("codec", "line"), REFUSED)
def test_what_no_page_can_compute_is_refused(codec: Codec, line: str, tmp_path: Path) -> None:
    saved(tmp_path / "model.ckpt", LSTM(hidden_size=4), codec)
    with pytest.raises(UserError, match=f"^html=true: {line}"):
        export(asked(tmp_path / "model.ckpt", onnx=False, html=True))
    assert [file.name for file in tmp_path.iterdir()] == ["model.ckpt"]
