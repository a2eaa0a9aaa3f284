"""A run begins with the weights of a trained model: all of them, or those that its data have in common with it."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers import config, fox, run
from throughline.config import Config
from throughline.data.codecs import Codec
from throughline.data.codecs.bytes import Bytes
from throughline.data.codecs.characters import Characters
from throughline.data.codecs.frames import Frames
from throughline.data.codecs.symbols import Symbols
from throughline.data.corpus import Corpus
from throughline.model.generator import Generator
from throughline.model.settings import GRU, LSTM, Model
from throughline.plumbing.errors import UserError
from throughline.runs import initial
from throughline.runs.checkpoint import load_parts
from throughline.runs.initial import Initial, adopted

ABC = Characters(symbols=["a", "b", "c"])
SIZES: dict[str, Any] = {"hidden_size": 4, "embedding_size": 4}
MODELS = [LSTM(**SIZES), LSTM(**SIZES, tie_weights=True), LSTM(**SIZES, input="onehot", num_layers=2), GRU(**SIZES)]


def built(model: Model, codec: Codec, seed: int) -> Generator:
    torch.manual_seed(seed)
    return Generator(model, codec.size).double().eval()


def moved(model: Model, old: Codec, new: Codec, keeps_vocab: bool = True) -> tuple[Generator, Generator, Generator]:
    """A trained generator, a new one before, and the new one after."""
    trained, before, after = built(model, old, 1), built(model, new, 2), built(model, new, 2)
    Initial("x.ckpt", "0" * 64, trained, old, keeps_vocab).into(after, new)
    return trained, before, after


@pytest.mark.parametrize("model", MODELS, ids=lambda m: f"{m.name}-{m.input}{'-tied' * m.tie_weights}")
def test_with_the_same_vocabulary_all_weights_are_those_of_the_trained_model(model: Model) -> None:
    trained, _, after = moved(model, ABC, ABC)
    for name, weight in trained.state_dict().items():
        assert torch.equal(after.state_dict()[name], weight)


@pytest.mark.parametrize("model", MODELS, ids=lambda m: f"{m.name}-{m.input}{'-tied' * m.tie_weights}")
def test_symbols_keep_their_weights_wherever_they_are(model: Model) -> None:
    """The new table has another order, lacks a symbol, and has two more and an end."""
    new = Characters(symbols=["c", "x", "a", "y"], ended=True)
    trained, before, after = moved(model, ABC, new)
    old_ids, new_ids = torch.tensor([0, 3, 1]), torch.tensor([0, 1, 3])  # unknown, c, a
    shown = 0
    for name, weight in after.state_dict().items():
        old = trained.state_dict()[name]
        if weight.shape == old.shape:
            assert torch.equal(weight, old)
            continue
        dim = next(d for d in range(weight.dim()) if weight.shape[d] != old.shape[d])
        assert (old.shape[dim], weight.shape[dim]) == (4, 6)
        assert torch.equal(weight.index_select(dim, new_ids), old.index_select(dim, old_ids))
        mean = old.narrow(dim, 1, 3).mean(dim)
        for id in (2, 4, 5):  # x, y and the end
            assert torch.equal(weight.select(dim, id), mean)
        shown += 1
        assert not torch.equal(weight, before.state_dict()[name])
    assert shown >= 2


@pytest.mark.parametrize("model", MODELS[:1] + MODELS[2:], ids=lambda m: f"{m.name}-{m.input}")
@pytest.mark.parametrize("new", [Characters(symbols=["x", "y", "z"]), Bytes()], ids=["as many", "others"])
def test_with_a_new_vocabulary_only_the_core_is_kept(model: Model, new: Codec) -> None:
    trained, before, after = moved(model, ABC, new, keeps_vocab=False)
    by_symbol = {"core.weight_ih_l0"} if model.input == "onehot" else {"reader.weight"}
    by_symbol |= {"head.weight", "head.bias"}
    for name, weight in after.state_dict().items():
        kept = before if name in by_symbol else trained
        assert torch.equal(weight, kept.state_dict()[name]), name


def test_a_model_that_was_extended_predicts_the_old_symbols_as_before() -> None:
    new = Characters(symbols=["a", "b", "c", "d"])
    trained, _, after = moved(LSTM(**SIZES), ABC, new)
    ids = torch.tensor([[1, 2, 3, 1, 1]])
    a, b = trained(ids)[0], after(ids)[0]
    torch.testing.assert_close(b[..., :4], a, rtol=0, atol=1e-12)
    assert not torch.equal(b[..., 4], a[..., 3])


@pytest.mark.parametrize(
    ("mine", "there", "wanted"),
    [
        (LSTM(), LSTM(hidden_size=8, dropout=0.5, num_layers=2), LSTM(hidden_size=8, num_layers=2)),
        (LSTM(dropout=0.1), LSTM(hidden_size=8, dropout=0.5), LSTM(hidden_size=8, dropout=0.1)),
        (LSTM(hidden_size=8), LSTM(hidden_size=8), LSTM(hidden_size=8)),
        (LSTM(dropout=0.1), GRU(hidden_size=8), GRU(hidden_size=8, dropout=0.1)),
        (LSTM(hidden_size=9), LSTM(hidden_size=8), "model.hidden_size=9: the model in x.ckpt has 8; leave it out"),
        (GRU(), LSTM(hidden_size=8), "model=gru: the model in x.ckpt is a lstm; leave model= out"),
        (LSTM(num_layers=2), GRU(), "model=lstm: the model in x.ckpt is a gru; leave model= out"),
    ],
)
def test_settings_at_their_defaults_are_those_of_the_trained_model(mine: Model, there: Model, wanted: Model | str) -> None:
    if isinstance(wanted, str):
        with pytest.raises(UserError) as error:
            adopted(mine, there, "x.ckpt")
        assert str(error.value) == wanted
    else:
        assert adopted(mine, there, "x.ckpt") == wanted
        assert adopted(wanted, there, "x.ckpt") == wanted  # it may be asked again


SHORT = ("trainer.max_epochs=1", "regime.streams=2", "regime.bptt=8", "logger=none")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    run(fox(), folder, *SHORT)
    return folder / "checkpoints" / "last.ckpt"


def text(tmp_path: Path, content: str) -> str:
    (tmp_path / "new.txt").write_text(content)
    return str(tmp_path / "new.txt")


def settings(trained: Path, path: str, *more: str) -> Config:
    return config("data=text", f"data.path={path}", f"init_from={trained}", *more)


def test_new_data_extend_keep_or_replace_the_vocabulary(trained: Path, tmp_path: Path) -> None:
    path = text(tmp_path, "the quick é fox ß. " * 50)
    corpus_text = ("the quick é fox ß. " * 50)[: len(initial.read(config("data=text", f"data.path={path}"))[1].train.steps)]
    old = load_parts(trained)[1]
    assert isinstance(old, Characters)
    assert old.symbols is not None
    for how, symbols in (
        ("extend", [*old.symbols, "ß", "é"]),
        ("keep", old.symbols),
        ("replace", sorted(set("the quick é fox ß. "))),
    ):
        found, corpus, first = initial.read(settings(trained, path, f"init_vocab={how}"))
        assert isinstance(corpus.codec, Characters)
        assert corpus.codec.symbols == symbols
        assert found.model.hidden_size == 16  # of the trained model
        assert first is not None
        told = first.told(corpus.codec)
        assert told.startswith(f"init_from: {trained}, lstm16, characters; ")
        assert ("2 new symbols ('ß', 'é') begin at the mean" in told) == (how == "extend")
        assert (corpus.train.steps == 0).sum() == (0 if how != "keep" else sum(corpus_text.count(s) for s in "ßé"))


def test_a_run_begins_with_these_weights_and_says_so(trained: Path, tmp_path: Path) -> None:
    path = text(tmp_path, "the quick brown fox. " * 100)
    more = ("optimizer.lr=1e-12", "schedule=constant", "regime=segments", "regime.steps=8", "regime.batch_size=4")
    done = run(None, tmp_path / "run", *SHORT[:1], "data=text", f"data.path={path}", f"init_from={trained}", *more)
    before, after = (load_parts(file)[0].state_dict() for file in (trained, tmp_path / "run" / "checkpoints" / "last.ckpt"))
    for name, weight in before.items():
        torch.testing.assert_close(after[name], weight, rtol=0, atol=1e-6)
    assert done["init_from"]["file"] == str(trained)
    assert len(done["init_from"]["sha256"]) == 64
    assert "init_from: " in (tmp_path / "run" / "terminal.txt").read_text()


def test_what_does_not_fit_is_one_line(trained: Path, tmp_path: Path) -> None:
    path = text(tmp_path, "the quick brown fox. " * 100)
    for more, line in {
        "codec=words": f"codec=words: the model in {trained} reads characters; leave codec= out, or give init_vocab=replace",
        "codec=bytes": f"codec=bytes: the model in {trained} reads characters; leave codec= out, or give init_vocab=replace",
        "model.hidden_size=9": f"model.hidden_size=9: the model in {trained} has 16; leave it out",
        "model.forget_bias=2.0": f"model.forget_bias=2.0: the model in {trained} has 0.0; leave it out",
        "codec=characters codec.symbols=[a,b]": "codec=characters: its table is not that of the model in "
        f"{trained}; leave codec= out",
        "init_from=none.ckpt": "init_from=none.ckpt: No such file or directory; give a .ckpt file of a run",
    }.items():
        with pytest.raises(UserError) as error:
            initial.read(settings(trained, path, *more.split()))
        assert str(error.value) == line
    frames = Corpus.of(replace(config("codec=frames").codec, kind="real"), [np.random.rand(50, 3)], [np.random.rand(50, 3)])
    with pytest.raises(UserError, match=r"predicts symbols, and the data are real frames; give other data$"):
        initial.read(settings(trained, path), frames)
    others = Corpus.of(Symbols(), [["a", "b"] * 50], [["a", "b"] * 5])
    with pytest.raises(
        UserError, match=r"reads characters \(\d+\), and the data are symbols \(3\); give init_vocab=replace"
    ):
        initial.read(settings(trained, path), others)


def test_real_frames_are_measured_in_the_units_of_the_new_data(tmp_path: Path) -> None:
    """The other data are the same series times 1000: the same network, and each density is a thousandth per feature."""
    old, new = (Corpus.of(Frames(), *([scale * part] for part in SERIES)) for scale in (1.0, 1000.0))
    head = Config().suited(old.codec).head
    torch.manual_seed(1)
    trained, after = (Generator(LSTM(**SIZES), 2, head).double().eval() for _ in range(2))
    trained.head.in_units_of(old.codec)
    Initial("x.ckpt", "0" * 64, trained, old.codec, True).into(after, new.codec)
    frames = [torch.from_numpy(np.asarray(corpus.val.steps)).double()[None] for corpus in (old, new)]
    before, now = (model.nll(f[:, :-1], f[:, 1:])[0] for model, f in zip((trained, after), frames, strict=True))
    torch.testing.assert_close(now, before + 2 * np.log(1000.0), rtol=0, atol=1e-4)


SERIES = np.split(np.random.default_rng(0).standard_normal((80, 2)), [60])


def test_a_run_that_is_resumed_keeps_the_model_that_it_began_with(trained: Path, tmp_path: Path) -> None:
    path, folder = text(tmp_path, "the quick brown fox. " * 100), tmp_path / "run"
    first, other = tmp_path / "first.ckpt", tmp_path / "other.ckpt"
    first.write_bytes(trained.read_bytes())
    run(fox(), tmp_path / "more", *SHORT, "optimizer.lr=0.1")
    other.write_bytes((tmp_path / "more" / "checkpoints" / "last.ckpt").read_bytes())
    common = ("data=text", f"data.path={path}", "regime.streams=2", "regime.bptt=8", "trainer.threads=1")
    begun = run(None, folder, "trainer.max_epochs=1", *common, f"init_from={first}")["init_from"]
    assert begun == {"file": str(first), "sha256": hashlib.sha256(trained.read_bytes()).hexdigest()}
    again = ("trainer.max_epochs=2", *common, "resume=must")
    with pytest.raises(UserError, match=rf"^init_from={other}: the run of .* began with {first} .*; give that file$"):
        run(None, folder, *again, f"init_from={other}")
    moved = first.rename(tmp_path / "moved.ckpt")  # the same model elsewhere
    done = run(None, folder, *again, f"init_from={moved}")
    assert done["init_from"] == begun
    assert done["epochs"] == 2
    plain = tmp_path / "plain"
    run(None, plain, "trainer.max_epochs=1", *common, *SMALL_MODEL)
    with pytest.raises(UserError, match=r"^init_from=.*: the run of .* began with no model; leave init_from= out$"):
        run(None, plain, *again, f"init_from={moved}")
    new = tmp_path / "new"
    begins = ("trainer.max_epochs=1", "resume=auto", "resume_with=[optimizer.lr]", "optimizer.lr=1")
    run(None, new, *common, *SMALL_MODEL, *begins)
    assert "resume_with: there is no run to resume; a new one begins with optimizer.lr" in (new / "terminal.txt").read_text()


SMALL_MODEL = ("model.hidden_size=16", "model.embedding_size=8")
