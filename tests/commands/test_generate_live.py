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
from hypothesis import given
from hypothesis import strategies as st

from helpers import PROJECT, config, resident_bytes, run, saved
from throughline.commands.evaluate import Evaluate, evaluate
from throughline.commands.generate import Generate, generate
from throughline.data.codecs.bytes import Bytes
from throughline.data.codecs.characters import Characters
from throughline.data.codecs.frames import Frames
from throughline.data.codecs.symbols import Symbols
from throughline.data.codecs.words import Words
from throughline.data.sources.array import Array
from throughline.data.sources.lines import Lines
from throughline.data.sources.text import Text
from throughline.model import generation
from throughline.model.generation import Allowed, likeliest
from throughline.model.settings import GRU, LSTM
from throughline.plumbing.errors import UserError
from throughline.runs import initial
from throughline.runs.trained import Trained, load

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


@pytest.mark.parametrize("after", [1, 300, 777, 4000, 9000])
def test_what_is_written_after_ctrl_c_is_what_would_have_followed(after: int, folder: Path, tmp_path: Path) -> None:
    """The signal comes at any moment of a step: the state that is kept is that of the text on the screen."""
    command = [sys.executable, str(PROJECT / "src" / "generate.py"), f"checkpoint={folder}/text.ckpt"]
    endless = [*command, "endless=true", "seed=3", f"state_out={tmp_path}/state"]
    with subprocess.Popen(endless, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        begun = process.stdout.read(after)
        process.send_signal(signal.SIGINT)
        begun += process.stdout.read()
        assert process.wait() == 130
    live, whole = load(folder / "text.ckpt").live(tmp_path / "state"), load(folder / "text.ckpt").live()
    assert live.draws == len(begun) - 1  # without the line break with which it opens
    assert begun.decode() == "\n" + TEXT.decode(whole.write(live.draws, 3, temperature=0.8))
    assert [*live.write(50, temperature=0.8)] == [*whole.write(50, temperature=0.8)]


def test_an_error_keeps_the_state_of_before(folder: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    generate(asked(folder, "text", prompt="ab", length=5, state_out=str(state)))
    before = state.read_bytes()
    with pytest.raises(UserError, match=r"^prompt: 'x' not in the vocabulary"):
        generate(asked(folder, "text", prompt="ax", length=5, state=str(state), state_out=str(state)))
    with pytest.raises(UserError, match=r"^prompt: 'x' not in the vocabulary"):
        generate(asked(folder, "text", prompt="x", length=5, state_out=str(tmp_path / "none")))
    assert state.read_bytes() == before
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_character_that_is_cut_goes_on(
    length: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network writes the bytes of the euro sign again and again."""
    saved(tmp_path / "bytes.ckpt", LSTM(hidden_size=4), Bytes())
    euro = [byte + 1 for byte in "\N{EURO SIGN}".encode()]
    following = dict(zip(euro, [*euro[1:], euro[0]], strict=True))
    pairs = np.array([*following.items(), (ord("\n") + 1, euro[0])])
    monkeypatch.setattr(Trained, "allowed", lambda trained, path: Allowed(pairs, 257))
    settings: dict[str, Any] = {"allowed": "euro"}
    generate(asked(tmp_path, "bytes", length=6, **settings))
    whole = said(capsys)
    assert whole == "\n\N{EURO SIGN}\N{EURO SIGN}\n"
    generate(asked(tmp_path, "bytes", length=length, state_out=str(tmp_path / "state"), **settings))
    begun = said(capsys)
    generate(asked(tmp_path, "bytes", seed=None, length=6 - length, state=str(tmp_path / "state"), **settings))
    assert begun.removesuffix("\n") + said(capsys) == whole


def test_a_refused_line_of_a_conversation_leaves_the_state_as_it_was(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pairs.csv").write_text("from,to\na,b\nb,a\n")
    monkeypatch.setattr(sys, "stdin", io.StringIO("a\nc\n"))
    state = tmp_path / "state"
    generate(asked(folder, "text", interactive=True, length=2, allowed=str(tmp_path / "pairs.csv"), state_out=str(state)))
    out, err = capsys.readouterr()
    assert out == "aba\n"
    assert "allowed: nothing may follow 'c'" in err
    assert load(folder / "text.ckpt").live(state).steps == 3


def test_the_state_is_kept_when_nobody_reads_the_text_any_longer(folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(PROJECT / "src" / "generate.py"), f"checkpoint={folder}/text.ckpt", "endless=true"]
    with subprocess.Popen(
        [*command, "seed=3", f"state_out={tmp_path}/state"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        process.stdout.read(200)
        process.stdout.close()
        process.wait()
    assert load(folder / "text.ckpt").live(tmp_path / "state").draws >= 199


def test_a_byte_that_is_no_utf_8_is_an_unknown_sign_of_a_conversation(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\xffb\ncc\n"), encoding="utf-8", errors="strict"))
    generate(asked(folder, "text", interactive=True, length=6))
    out, err = capsys.readouterr()
    assert out.startswith("cc")
    assert "not in the vocabulary" in err
    assert err.isascii()


def test_unknown_words_are_said_in_every_way_to_ask(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path / "words.ckpt", LSTM(hidden_size=8), Words(symbols=["the", "<eos>", "cat", "<unk>"]))
    caution = "caution: prompt: 'dog' not in the vocabulary, read as <unk>"
    for settings in ({"likeliest": 2}, {"length": 3, "state_out": str(tmp_path / "state")}, {}):
        if settings:
            generate(asked(tmp_path, "words", prompt="the dog", **({"seed": None} | settings)))
        else:
            monkeypatch.setattr(sys, "stdin", io.StringIO("the dog\n"))
            generate(asked(tmp_path, "words", interactive=True, length=3))
        assert caution in capsys.readouterr().err


@pytest.mark.parametrize(
    ("table", "line"),
    [
        ("from,to\na,zz\n", r"line 2: to: 'zz' not in the vocabulary, read as <unk>; give a symbol of the vocabulary$"),
        ("from,to\na\n", r"line 2: to is missing; give a cell in each row$"),
        ("from,to\na,b,c\n", r"line 2 has more cells than columns; put a symbol with a comma in quotes$"),
        ("from,to\na,\n", r"line 2: to is empty; give one symbol"),
        ("from,to\na,b a\n", r"line 2: to is 'b a'; give one symbol$"),
        ("from,to\na," + 140_000 * "b" + "\n", r"after line 1: field larger than field limit \(131072\); give a CSV file$"),
    ],
)
def test_a_table_of_pairs_is_read_to_the_letter(table: str, line: str, tmp_path: Path) -> None:
    saved(tmp_path / "words.ckpt", LSTM(hidden_size=8), Words(symbols=["a", "b", "<unk>"]))
    (tmp_path / "pairs.csv").write_text(table)
    with pytest.raises(UserError, match=rf"^allowed={tmp_path}/pairs.csv: {line}"):
        load(tmp_path / "words.ckpt").allowed(str(tmp_path / "pairs.csv"))


def test_pairs_take_memory_for_themselves_and_not_for_all_symbols() -> None:
    steps = np.arange(3, dtype=np.int64) + 10**6
    allowed = Allowed.seen(steps, 10**8)  # a table of all would have 10^16 cells
    assert allowed.after(10**6).tolist() == [10**6 + 1]
    assert not allowed.lets_follow(10**6 + 2)


@given(st.lists(st.integers(1, 5), min_size=2, max_size=30), st.integers(1, 9))
def test_pairs_that_were_seen_go_on_for_ever(steps: list[int], piece: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generation, "PIECE", piece)
        found = Allowed.seen(np.array(steps, np.uint8), 6)
    seen = {*itertools.pairwise(steps)}
    assert {(b, a) for b in range(6) for a in found.after(b).tolist()} == seen
    going = found.without_dead_ends()
    kept = {(b, a) for b in range(6) for a in going.after(b).tolist()}
    while dead := {pair for pair in seen if not any(b == pair[1] for b, _ in seen)}:
        seen -= dead
    assert kept == seen
    assert going.empty == (not seen)
    logits = np.arange(12, dtype=np.float32).reshape(2, 6)
    masked = found.among(logits, np.array([steps[0], steps[0]]))
    wanted = [a in found.after(steps[0]).tolist() for a in range(6)]
    assert (masked[0] == logits[0]).tolist() == (masked[1] == logits[1]).tolist() == wanted


def test_the_last_symbol_of_the_training_data_may_stand_only_there(tmp_path: Path) -> None:
    (tmp_path / "end.txt").write_text("the quick brown fox. " * 60 + "Z")
    data = ("data=text", f"data.path={tmp_path}/end.txt", f"data.val_path={tmp_path}/end.txt", "data.val_fraction=0")
    _, corpus, _ = initial.read(config(*data[:3]))
    assert int(corpus.train.steps[-1]) == corpus.codec.ids["Z"]  # type: ignore[attr-defined]
    run(corpus, tmp_path / "run", "trainer.max_epochs=1", "regime.streams=2", *data[:3])
    generate(
        Generate(str(tmp_path / "run" / "checkpoints" / "last.ckpt"), prompt="t", length=50, temperature=3, allowed="seen")
    )


def test_the_length_of_the_likeliest_is_of_their_kind(folder: Path) -> None:
    with pytest.raises(UserError, match=r"^length=3: the sequences of this checkpoint end by themselves; give max_length"):
        generate(asked(folder, "events", seed=None, likeliest=2, length=3))
    with pytest.raises(UserError, match=r"^max_length=3: the texts of this checkpoint have no ends; give length"):
        generate(asked(folder, "text", seed=None, likeliest=2, max_length=3))


@pytest.mark.parametrize("kind", ["lines", "frames"])
def test_joined_sequences_in_two_parts_score_as_one(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At the seam the end symbol, or the beginning of frames, stands in both files and is read once."""
    rng = np.random.default_rng(1)
    if kind == "lines":
        saved(tmp_path / "model.ckpt", LSTM(hidden_size=8), Characters(list("abc"), ended=True))
        lines = ["".join(rng.choice(list("abc"), n)) for n in rng.integers(1, 9, 12)]
        parts = {"whole": lines, "monday": lines[:5], "tuesday": lines[5:]}
        for name, part in parts.items():
            (tmp_path / name).write_text("\n".join(part) + "\n")
        sources: dict[str, Any] = {name: Lines(str(tmp_path / name), joined=True, split="end") for name in parts}
    else:
        saved(tmp_path / "model.ckpt", LSTM(hidden_size=8), Frames(kind="multi_hot", features=3, ended=True))
        rolls = [rng.integers(0, 2, (n, 3)).astype(np.uint8) for n in rng.integers(1, 9, 12)]
        for name, part in {"whole": rolls, "monday": rolls[:5], "tuesday": rolls[5:]}.items():
            np.savez(tmp_path / f"{name}.npz", **{f"tune{k:02d}": tune for k, tune in enumerate(part)})
        sources = {
            name: Array(f"{tmp_path / name}.npz", joined=True, split="end") for name in ("whole", "monday", "tuesday")
        }

    def scored(name: str, **settings: Any) -> tuple[float, int]:
        evaluate(Evaluate(str(tmp_path / "model.ckpt"), "all", data=sources[name], **settings))
        out = said(capsys)
        nll = float(next(line.split()[1] for line in out.splitlines() if line.startswith("all/nll")))
        count = next((line.split()[0] for line in out.splitlines() if "steps scored" in line), "0")
        return nll, int(count.replace(",", ""))

    whole, number = scored("whole", state_out=str(tmp_path / "whole.state"))
    monday, first = scored("monday", state_out=str(tmp_path / "monday.state"))
    tuesday, second = scored("tuesday", state=str(tmp_path / "monday.state"), state_out=str(tmp_path / "tuesday.state"))
    assert first + second == number > 20
    assert (first * monday + second * tuesday) / number == pytest.approx(whole, abs=2e-6)
    assert (tmp_path / "tuesday.state").read_bytes() == (tmp_path / "whole.state").read_bytes()
    assert scored("whole")[0] == pytest.approx(whole, abs=2e-6)  # and as all at once


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
