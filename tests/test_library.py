"""`import throughline` as in a notebook: the examples of docs/library.md run, and leave the process as before."""

import ast
import logging
import math
import os
import random
import re
import signal
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import throughline as tl
from helpers import PROJECT, fox
from throughline.data.codecs.characters import Characters
from throughline.model.generator import Generator
from throughline.runs.record import metric_rows
from throughline.runs.trained import Trained, before
from throughline.training.machine import flushes_denormals, set_flush_denormal

PAGE = PROJECT / "docs" / "library.md"
EXAMPLES = re.findall(r"^```python\n(.*?)```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
SMALL = tl.Config(
    model=tl.LSTM(hidden_size=8, embedding_size=4, dropout=0.1),
    regime=tl.Stateful(streams=4, bptt=8),
    budget=tl.Budget(tokens=400),
    logger=tl.Logger("none"),
    sampling=tl.Sampling(length=20),
)


def test_the_examples_of_the_page(tmp_path: Path) -> None:
    """All examples run as one script in its own process. Each has at most ten lines."""
    assert len(EXAMPLES) == 6
    assert all(len(example.splitlines()) <= 10 for example in EXAMPLES)
    (tmp_path / "my.txt").write_text("The quick brown fox jumps over the lazy dog. " * 200)
    quick = "\n".join(EXAMPLES).replace("seconds=20", "tokens=3000").replace("seconds=30", "tokens=6000")
    assert "tokens=6000" in quick
    done = subprocess.run([sys.executable, "-c", quick], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    assert "test nll" in done.stdout
    assert "resume: continuing from" in done.stdout
    assert re.search(r"^'\w' 0\.\d{3}$", done.stdout, re.MULTILINE)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["outputs"]


def test_the_import_is_lazy_and_every_public_name_is_there() -> None:
    code = "import sys; before = set(sys.modules); import throughline; print(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT / "src")
    assert {name for name in done.stdout.split() if name.split(".")[0] not in sys.stdlib_module_names} == {"throughline"}
    assert len(tl.__all__) > 30
    assert all(getattr(tl, name) is not None for name in tl.__all__)
    assert set(tl.__all__) <= set(dir(tl))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = tl.nothing


def test_type_checkers_are_shown_the_names_that_there_are() -> None:
    """The imports for them and the table of the names are two lists of the same."""
    tree = ast.parse((PROJECT / "src" / "throughline" / "__init__.py").read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    shown = {
        (str(node.module).removeprefix("throughline."), alias.name)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    methods = {("runs.trained", name) for name in ("generate", "evaluate")}
    assert shown | methods == {(home, name) for home, names in tl._HOMES.items() for name in names}


def surroundings() -> dict[str, Any]:
    """Everything in a process that a run could change and on which other work may rely."""
    return {
        "signals": {number: signal.getsignal(number) for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}},
        "warnings": list(warnings.filters),
        "levels": {
            name: logger.level
            for name, logger in logging.root.manager.loggerDict.items()
            if isinstance(logger, logging.Logger) and name.startswith("lightning")
        },
        "root": (logging.root.level, list(logging.root.handlers)),
        "torch seed": torch.random.get_rng_state().tolist(),
        "numpy seed": str(np.random.get_state()),
        "python seed": random.getstate(),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "denormals": flushes_denormals(),
        "matmul": torch.get_float32_matmul_precision(),
        "deterministic": (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark),
        "default dtype": torch.get_default_dtype(),
        "grad": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "environment": {key: value for key, value in os.environ.items() if key != "PYTEST_CURRENT_TEST"},
        "hooks": (sys.excepthook, sys.stdout, sys.stderr),
        "folder": Path.cwd(),
    }


@pytest.mark.parametrize("regime", [tl.Stateful(streams=4, bptt=8), tl.Onestep(updates=8)])
def test_after_training_the_process_is_as_before(tmp_path: Path, regime: Any) -> None:
    tl.train(SMALL, fox(), tmp_path / "warm")  # libraries are imported, and their loggers exist
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    torch.set_flush_denormal(False)
    torch.manual_seed(5)
    before = surroundings()
    assert before["denormals"] is False
    tl.train(replace(SMALL, regime=regime), fox(), tmp_path / "run")
    assert surroundings() == before
    with pytest.raises(tl.UserError):
        tl.train(replace(SMALL, optimizer=tl.AdamW(lr=1e38)), fox(), tmp_path / "fails")
    assert surroundings() == before


def test_a_run_generates_scores_and_says_what_comes_next(tmp_path: Path) -> None:
    corpus = fox()
    run = tl.train(replace(SMALL, budget=tl.Budget(tokens=4000)), corpus, tmp_path / "run")
    loaded = tl.load(run.folder / "checkpoints" / "last.ckpt")
    text = run.generate("the ", 30, seed=3)
    assert text == loaded.generate("the ", 30, seed=3) == tl.generate(loaded, "the ", 30, seed=3)
    assert (text[:4], len(text)) == ("the ", 34)
    assert len({run.generate("the ", 30) for _ in range(5)}) > 1  # another text each time
    steps = torch.from_numpy(run.codec.prompt("the quick").astype(np.int64))[None]
    with torch.no_grad():
        logits, _ = run.generator(steps)
    expected = logits[0, -1, 1:].softmax(dim=0)  # the unknown symbol is never generated
    chances = run.probabilities("the quick")
    assert chances[" "] == pytest.approx(float(expected[run.codec.prompt(" ")[0] - 1]), abs=1e-6)
    assert list(chances.values()) == sorted(chances.values(), reverse=True)
    assert sum(chances.values()) == pytest.approx(1, abs=1e-9)
    assert run.score("t") == []
    nll = F.cross_entropy(logits[0, :-1], steps[0, 1:], reduction="none").tolist()
    assert run.score("the quick") == pytest.approx(nll, abs=1e-5)
    with pytest.raises(tl.UserError, match="prompt: 'Q' not in the vocabulary"):
        run.probabilities("Q")


def names(vocabulary: str = "ab", bias: float = 0.0) -> Trained:
    """A generator of sequences with ends, untrained and in float64; `bias` makes the unknown symbol less likely."""
    torch.manual_seed(0)
    codec = Characters(list(vocabulary)).with_end()
    generator = Generator(tl.LSTM(hidden_size=4, embedding_size=3), codec.size).double().eval()
    for weight in generator.parameters():
        weight.data *= 3  # so that what was read matters
    generator.head.bias.data[0] -= bias
    return Trained(generator, codec)


def test_the_probabilities_of_all_sequences_sum_to_1() -> None:
    """By the scores: of whole sequences of up to 5 symbols, and of beginning with 6 symbols."""
    trained = names(bias=1e4)  # scores count the unknown symbol, which no text can hold
    scores = {"".join(text): trained.score("".join(text)) for n in range(7) for text in product("ab", repeat=n)}
    assert {len(text): len(score) for text, score in scores.items()} == {n: n + 1 for n in range(7)}
    whole = [math.exp(-sum(score)) for text, score in scores.items() if len(text) <= 5]
    longer = [math.exp(-sum(score[:-1])) for text, score in scores.items() if len(text) == 6]
    assert sum(whole) + sum(longer) == pytest.approx(1, abs=1e-12)
    assert min(sum(whole), sum(longer), *whole) > 1e-9
    for text in ("", "ab", "bba"):
        chances = trained.probabilities(text)
        assert set(chances) == {"", "a", "b"}
        assert chances[""] == pytest.approx(math.exp(-scores[text][-1]), rel=1e-12)
        assert chances["a"] == pytest.approx(math.exp(-scores[text + "a"][len(text)]), rel=1e-12)


def test_a_sequence_is_generated_to_its_end_or_to_a_length() -> None:
    trained = names()
    texts = [trained.generate(seed=seed, temperature=1) for seed in range(400)]
    assert texts[:20] == [next(trained.sequences(5, seed=seed, temperature=1)).text for seed in range(20)]
    for text in ("", "a", "b"):
        share = math.prod(trained.probabilities(text[:i])[sign] for i, sign in enumerate([*text, ""]))
        assert texts.count(text) / len(texts) == pytest.approx(share, abs=0.05)
        assert share > 0.04
    begun = [trained.generate("ab", max_length=3, seed=seed) for seed in range(20)]
    assert {text[:2] for text in begun} == {"ab"}
    assert max(map(len, begun)) == 5
    cut = [sequence for sequence in trained.sequences(50, max_length=2, seed=1) if not sequence.whole]
    assert {(len(sequence.ids), len(sequence.text)) for sequence in cut} == {(2, 2)}
    with pytest.raises(
        tl.UserError, match=r"^length=3: the sequences of this checkpoint end by themselves; give max_length="
    ):
        trained.generate(length=3)
    with pytest.raises(tl.UserError, match=r"^stop='a': the sequences of this checkpoint end by themselves; leave it out"):
        trained.generate(stop="a")


def test_a_text_without_ends_stops_before_a_text() -> None:
    torch.manual_seed(0)
    codec = Characters(list("ab"))
    trained = Trained(Generator(tl.LSTM(hidden_size=4, embedding_size=3), codec.size).eval(), codec)
    text = trained.generate("ab", 100, seed=1)
    assert (len(text), text[:2]) == (102, "ab")
    for stop in ("a", "ab", "bb", "aba"):
        at = text.index(stop, 2)
        assert trained.generate("ab", 100, seed=1, stop=stop) == text[:at]
        first, second = trained.sequences(2, "ab", 100, stop=stop, seed=1, temperature=0.8)
        assert (first.text, codec.decode(first.ids)) == (text[:at], text[:at])
        assert stop not in second.text[2:]
    assert trained.generate("ab", 5, seed=1, stop="aaaaaaaa") == text[:7]
    with pytest.raises(tl.UserError, match=r"^max_length=3: the texts of this checkpoint have no ends; give length="):
        trained.generate(max_length=3)
    with pytest.raises(tl.UserError, match=r"^stop: is empty; give a text"):
        trained.generate(stop="")


@given(st.lists(st.text("ab", max_size=3)), st.text("ab", min_size=1, max_size=3))
def test_pieces_before_a_stop(pieces: list[str], stop: str) -> None:
    """Never one that may hold a part of it, whatever follows."""
    read, over = 0, False

    def reading() -> Iterator[str]:
        nonlocal read, over
        for piece in pieces:
            read += 1
            yield piece
        over = True

    text, given = "".join(pieces), 0
    for number, piece in enumerate(before(stop, reading())):
        assert piece == pieces[number]
        given += len(piece)
        known = "".join(pieces[:read])
        assert over or not any((known + more).find(stop) in range(given) for more in ("", stop[1:], stop[2:]))
    assert given <= (text.find(stop) if stop in text else len(text))
    if stop in text:
        whole = [sum(map(len, pieces[:n])) for n in range(len(pieces) + 1)]
        assert given == max(size for size in whole if size <= text.find(stop))
    else:
        assert given == len(text)


def test_pieces_are_held_only_while_they_may_belong_to_a_stop() -> None:
    shown: list[str] = []
    pieces = iter(("x", "\n", "y", "\n", "", "\n", "z"))
    held = [len(shown) for piece in before("\n\n", pieces) if shown.append(piece) is None]
    assert (shown, held) == (["x", "\n", "y"], [1, 2, 3])
    assert list(pieces) == ["z"]


def test_a_model_is_evaluated_on_its_own_data_on_others_and_on_whole_files(tmp_path: Path) -> None:
    file, other = tmp_path / "a.txt", tmp_path / "b.txt"
    file.write_text("the quick brown fox. " * 60)
    other.write_text("the brown quick dog! " * 20)
    config = replace(SMALL, data=tl.Text(str(file), test_fraction=0.2))
    run = tl.train(config, folder=tmp_path / "run")
    loaded = tl.load(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert loaded.evaluate()["val/nll"] == pytest.approx(run.record.metrics["val/nll"], abs=1e-6)
    best = tl.load(tmp_path / "run" / "checkpoints" / "best.ckpt")
    assert best.evaluate(split="test")["test/nll"] == pytest.approx(run.record.metrics["test/nll"], abs=1e-6)
    whole = loaded.evaluate(tl.Text(str(other)), split="all")
    steps = torch.from_numpy(run.codec.encode(other.read_text()).astype(np.int64))[None]
    with torch.no_grad():
        nll, _, _ = run.generator.score(steps[:, :-1], steps[:, 1:])
    assert whole["all/nll"] == pytest.approx(float(nll.mean()), abs=1e-5)
    file.write_text("the quick brown fox? " * 60)
    with pytest.raises(tl.UserError, match=r"^data: .*a.txt has changed since the run was trained; give data="):
        loaded.evaluate()
    file.unlink()
    with pytest.raises(tl.UserError, match=r"^the data of the run: data.path=.*a.txt: No such file.*; or give data="):
        loaded.evaluate()


def test_the_test_split_is_scored_by_the_best_checkpoint_not_the_last(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("the quick brown fox. " * 60 + "the lazy dog sleeps! " * 12)
    # The validation text is of another kind. The network gets worse at it while it memorizes the training text.
    config = replace(
        SMALL,
        data=tl.Text(str(file), val_fraction=0.1, test_fraction=0.08),
        model=tl.LSTM(hidden_size=32, embedding_size=8),
        budget=tl.Budget(),
        trainer=tl.Trainer(max_epochs=12),
        optimizer=tl.AdamW(lr=0.05),
    )
    run = tl.train(config, folder=tmp_path / "run")
    scored = {
        name: tl.load(tmp_path / "run" / "checkpoints" / f"{name}.ckpt").evaluate(split="test")["test/nll"]
        for name in ("best", "last")
    }
    assert scored["best"] != pytest.approx(scored["last"], rel=1e-3)
    assert run.record.metrics["test/nll"] == pytest.approx(scored["best"], abs=1e-6)


def test_data_in_memory_are_not_taken_for_those_of_the_settings(tmp_path: Path) -> None:
    run = tl.train(SMALL, fox(), tmp_path / "run")
    for model in (run, tl.load(tmp_path / "run" / "checkpoints" / "last.ckpt")):
        with pytest.raises(tl.UserError, match=r"^data: .*; give data="):
            model.evaluate()
        assert model.evaluate(fox())["val/nll"] == pytest.approx(run.record.metrics["val/nll"], abs=1e-6)


def test_a_run_that_is_resumed_after_its_end_in_a_new_folder_is_tested_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the quick brown fox. " * 60)
    config = replace(SMALL, data=tl.Text(str(tmp_path / "a.txt"), test_fraction=0.2))
    first = tl.train(config, folder=tmp_path / "first")
    again = replace(config, resume=str(first.folder / "checkpoints" / "last.ckpt"))
    second = tl.train(again, folder=tmp_path / "second")
    assert not (tmp_path / "second" / "checkpoints" / "best.ckpt").exists()
    assert second.record.metrics["test/nll"] == pytest.approx(first.record.metrics["test/nll"], rel=0.1)


def test_the_best_checkpoint_is_chosen_by_like_numbers(tmp_path: Path) -> None:
    """Validations on a part of the split choose by that part to the end; the summary is of the whole."""
    part = replace(SMALL, evaluation=tl.Evaluation(tokens=8), trainer=tl.Trainer(max_epochs=2), budget=tl.Budget())
    for config, same in ((part, False), (replace(part, evaluation=tl.Evaluation()), True)):
        run = tl.train(config, fox(), tmp_path / str(same))
        last = [row for row in metric_rows(run.folder / "metrics.csv") if row["val/nll"]][-1]
        assert (float(last["val/nll"]) == pytest.approx(run.record.metrics["val/nll"], abs=1e-9)) == same


def test_denormals_are_as_before_in_every_thread() -> None:
    threads, before = torch.get_num_threads(), flushes_denormals()

    def kept() -> int:
        return int((torch.full((2_000_000,), 1e-39) * 1.0 != 0).sum())

    try:
        torch.set_num_threads(2)
        set_flush_denormal(True)
        assert kept() == 0
        set_flush_denormal(False)
        assert kept() == 2_000_000
    finally:
        set_flush_denormal(before)
        torch.set_num_threads(threads)


def test_resuming_needs_a_folder(tmp_path: Path) -> None:
    with pytest.raises(tl.UserError, match=r"^resume=auto: give the folder of the run"):
        tl.train(replace(SMALL, resume="auto", output_root=str(tmp_path)), fox())


def test_the_wheel_would_hold_every_package_and_every_setting() -> None:
    setup = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    source = PROJECT / "src"
    there = {".".join(file.parent.relative_to(source).parts) for file in (source / "throughline").rglob("__init__.py")}
    assert set(setup["tool"]["setuptools"]["packages"]) == there | {"throughline.conf", "hydra_plugins"}
    assert setup["tool"]["setuptools"]["package-dir"]["throughline.conf"] == "conf"
    commands = {file.stem for file in source.glob("*.py")}
    assert {name.removeprefix("throughline-") for name in setup["project"]["scripts"]} == commands
