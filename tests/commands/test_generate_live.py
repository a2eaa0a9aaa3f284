"""One text that goes on from a state, by allowed pairs, without end, or in a conversation, and the likeliest ones."""

import io
import itertools
import math
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers import PROJECT, config, resident_bytes, run, saved
from throughline.commands.evaluate import Evaluate, evaluate
from throughline.commands.generate import Generate, generate
from throughline.data.codecs.characters import Characters
from throughline.data.codecs.frames import Frames
from throughline.data.codecs.symbols import Symbols
from throughline.data.sources.text import Text
from throughline.model.generation import likeliest
from throughline.model.settings import GRU, LSTM
from throughline.plumbing.errors import UserError
from throughline.runs import initial
from throughline.runs.trained import load

TEXT = Characters(list("\n abc"))
EVENTS = Symbols(["go in", "sit", "stand"], ended=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("live")
    saved(folder / "text.ckpt", LSTM(hidden_size=8), TEXT)
    saved(folder / "events.ckpt", GRU(hidden_size=8), EVENTS.fit([["go in"]]))
    saved(folder / "frames.ckpt", LSTM(hidden_size=4), Frames(kind="multi_hot", features=2, ended=True))
    return folder


def asked(folder: Path, name: str, **settings: Any) -> Generate:
    return Generate(**{"checkpoint": str(folder / f"{name}.ckpt"), "seed": 1, **settings})


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return str(capsys.readouterr().out)


def test_a_text_goes_on_bit_for_bit(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two, three = (str(tmp_path / name) for name in "abc")
    generate(asked(folder, "text", prompt="ab", length=300, state_out=one))
    whole = said(capsys)
    generate(asked(folder, "text", prompt="ab", length=100, state_out=two))
    begun = said(capsys)
    generate(asked(folder, "text", seed=None, length=200, state=two, state_out=three))
    assert begun.removesuffix("\n") + said(capsys) == whole
    assert Path(one).read_bytes() == Path(three).read_bytes()
    generate(asked(folder, "text", seed=None, length=5, state=two, prompt="cc"))
    assert said(capsys).startswith("cc")


@pytest.mark.parametrize("name", ["text", "events"])
def test_the_likeliest_are_those_of_all(name: str, folder: Path) -> None:
    """With a small vocabulary, all continuations are tried."""
    trained = load(folder / f"{name}.ckpt")
    codec, length = trained.codec, 3
    prompt = codec.prompt("ab" if name == "text" else "sit")
    every: list[tuple[float, list[int]]] = []
    symbols = range(1, codec.size)
    for n in range(1, length + 1):
        for ids in itertools.product(symbols, repeat=n):
            ends = [id == codec.end for id in ids]
            if any(ends[:-1]) or (n < length and not ends[-1]):
                continue
            steps = torch.tensor([[*prompt.tolist(), *ids]])
            with torch.inference_mode():
                logits = trained.generator(steps)[0][0].double().clone()
                logits[:, 0] = -math.inf
            logs = logits.log_softmax(-1)[len(prompt) - 1 : -1]
            every.append((math.exp(sum(logs[k, id].item() for k, id in enumerate(ids))), list(ids)))
    assert sum(share for share, _ in every) == pytest.approx(1.0)
    found = likeliest(trained.generator, prompt, length, 6, codec.end)
    wanted = sorted(every, reverse=True)[:6]
    assert [ids for _, ids in found] == [ids for _, ids in wanted]
    assert [share for share, _ in found] == pytest.approx([share for share, _ in wanted], abs=1e-6)


def test_the_likeliest_are_printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generate(asked(folder, "events", seed=None, prompt="sit", likeliest=3, max_length=2))
    lines = said(capsys).splitlines()
    assert len(lines) == 3
    shares = [float(line.split()[0]) for line in lines]
    assert shares == sorted(shares, reverse=True)
    assert all("'" in line for line in lines)


PAIRS = {(" ", "a"), ("a", "b"), ("b", " "), ("b", "a"), ("\n", "a")}


def test_only_allowed_pairs_are_drawn(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pairs.csv").write_text('from,to\n" ",a\na,b\nb," "\nb,a\n"\n",a\n')
    generate(asked(folder, "text", prompt="a", length=400, temperature=1.5, allowed=str(tmp_path / "pairs.csv")))
    text = said(capsys)[:-1]
    assert len(text) == 401
    assert {*itertools.pairwise(text)} == PAIRS - {("\n", "a")}  # nothing leads to a line break
    generate(asked(folder, "text", prompt="a", length=400, temperature=1.5))
    assert not {*itertools.pairwise(said(capsys)[:-1])} <= PAIRS


def test_pairs_of_sequences_have_an_empty_cell_where_they_begin_and_end(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pairs.csv").write_text("from,to\n,go in\ngo in,sit\nsit,\nsit,stand\nstand,sit\n")
    seen = set()
    for seed in range(30):
        generate(asked(folder, "events", seed=seed, temperature=2, allowed=str(tmp_path / "pairs.csv")))
        seen.add(said(capsys))
    assert all(line.startswith("go in, sit") and line.endswith("sit\n") for line in seen)
    assert len(seen) > 2


def test_pairs_that_were_seen_in_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "fox.txt").write_text("the quick brown fox. " * 60)
    data = ("data=text", f"data.path={tmp_path}/fox.txt")
    _, corpus, _ = initial.read(config(*data))
    run(corpus, tmp_path / "run", "trainer.max_epochs=1", "regime.streams=2", *data)
    last = str(tmp_path / "run" / "checkpoints" / "last.ckpt")
    generate(Generate(last, seed=1, prompt="t", length=300, temperature=3, allowed="seen"))
    text = said(capsys)[:-1]
    assert {*itertools.pairwise(text)} <= {*itertools.pairwise("the quick brown fox. t")}


def test_a_conversation_carries_the_state(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("ab\nxyz\ncc\n"))
    generate(asked(folder, "text", interactive=True, length=6, state_out=str(tmp_path / "state")))
    out, err = capsys.readouterr()
    first, second = out.removesuffix("\n")[:8], out.removesuffix("\n")[9:]
    assert first.startswith("ab")
    assert second.startswith("cc")
    assert "'x', 'y', 'z' not in the vocabulary" in err  # and it goes on
    live = load(folder / "text.ckpt").live()
    list(live.read(TEXT.prompt("ab")))
    assert TEXT.decode(live.write(6, 1, temperature=0.8)) == first[2:]
    list(live.read(TEXT.prompt("cc")))
    assert TEXT.decode(live.write(6, temperature=0.8)) == second[2:]
    assert load(folder / "text.ckpt").live(tmp_path / "state").steps == live.steps == 16


def test_it_writes_without_end_in_constant_memory_and_keeps_its_state_at_ctrl_c(folder: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(PROJECT / "src" / "generate.py"),
        f"checkpoint={folder}/text.ckpt",
        "endless=true",
        "seed=3",
    ]
    with subprocess.Popen(
        [*command, f"state_out={tmp_path}/state"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        process.stdout.read(20_000)
        before = resident_bytes(process.pid)
        process.stdout.read(100_000)
        assert resident_bytes(process.pid) < before + 4 * 2**20
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait() == 130
    assert load(folder / "text.ckpt").live(tmp_path / "state").draws >= 119_000


def test_a_text_in_two_parts_scores_as_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved(tmp_path / "model.ckpt", LSTM(hidden_size=8), TEXT)
    text = "".join(np.random.default_rng(0).choice(list("\n abc"), 200))
    for name, part in (("whole", text), ("monday", text[:77]), ("tuesday", text[77:])):
        (tmp_path / f"{name}.txt").write_text(part)

    def scored(name: str, **settings: Any) -> float:
        data = Text(str(tmp_path / f"{name}.txt"))
        evaluate(Evaluate(str(tmp_path / "model.ckpt"), "all", data=data, **settings))
        lines = said(capsys).splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith("all/nll")))

    whole = scored("whole", state_out=str(tmp_path / "whole.state"))
    monday = scored("monday", state_out=str(tmp_path / "monday.state"))
    tuesday = scored("tuesday", state=str(tmp_path / "monday.state"), state_out=str(tmp_path / "tuesday.state"))
    assert (76 * monday + 123 * tuesday) / 199 == pytest.approx(whole, abs=2e-6)
    assert (tmp_path / "tuesday.state").read_bytes() == (tmp_path / "whole.state").read_bytes()
    assert scored("whole") == pytest.approx(whole, abs=2e-6)


def test_frames_do_not_go_on_here(folder: Path) -> None:
    with pytest.raises(UserError, match=r"^endless: is for symbols here"):
        generate(asked(folder, "frames", endless=True))
