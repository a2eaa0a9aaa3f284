"""The files that an export writes, and the files that it does not change."""

import hashlib
import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import safetensors.torch
from tokenizers import Tokenizer

from helpers import KINDS, LETTERS, PROJECT, asked, saved
from throughline import __version__
from throughline.commands.evaluate import Evaluate, evaluate
from throughline.commands.export import export
from throughline.commands.generate import Generate, generate
from throughline.data.codecs import Codec
from throughline.data.codecs.bpe import Bpe
from throughline.data.codecs.characters import Characters
from throughline.data.codecs.frames import Frames
from throughline.data.codecs.symbols import Symbols
from throughline.data.codecs.words import Words
from throughline.data.sources.text import Text
from throughline.model.settings import LSTM
from throughline.plumbing.errors import UserError
from throughline.runs.checkpoint import load_parts
from throughline.runs.trained import load


def test_the_description_in_full(tmp_path: Path) -> None:
    saved(tmp_path / "last.ckpt", LSTM(hidden_size=2, embedding_size=3), Characters(["a", "\n"]))
    export(asked(tmp_path / "last.ckpt"))
    plain = safetensors.torch.load((tmp_path / "model.safetensors").read_bytes())
    expected = {
        "format": 3,
        "throughline": __version__,
        "model": {
            "core": "lstm",
            **{"hidden_size": 2, "num_layers": 1, "input": "embedding", "embedding_size": 3},
            **{"dropout": 0.0, "variational": False, "input_dropout": 0.0, "embedding_dropout": 0.0},
            **{"tie_weights": False, "init": None, "embedding_init": None, "forget_bias": 0.0, "weight_drop": 0.0},
        },
        "head": {"name": "categorical"},
        "codec": {"name": "characters", "symbols": ["a", "\n"], "ended": False},
        "sha256": hashlib.sha256(safetensors.torch.save(plain, {"format": "pt"})).hexdigest(),
        "seal": "",
    }
    expected["seal"] = hashlib.sha256(json.dumps(expected, sort_keys=True).encode()).hexdigest()
    assert json.loads((tmp_path / "model.json").read_text()) == expected
    (entry,) = onnx.load(tmp_path / "model.onnx").metadata_props
    assert (entry.key, json.loads(entry.value)) == ("throughline", expected)
    assert {name: list(weight.shape) for name, weight in plain.items()} == {
        "reader.weight": [3, 3],
        "core.weight_ih_l0": [8, 3],
        "core.weight_hh_l0": [8, 2],
        "core.bias_ih_l0": [8],
        "core.bias_hh_l0": [8],
        "head.weight": [3, 2],
        "head.bias": [3],
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "last.ckpt",
        "model.json",
        "model.onnx",
        "model.safetensors",
    ]


def test_words_survive_an_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    codec = Words(min_count=2).fit(["the cat saw the é é cat\n\n"])
    assert codec.symbols == ["<eos>", "cat", "the", "é", "<unk>"]
    saved(tmp_path / "last.ckpt", LSTM(hidden_size=4), codec)
    export(asked(tmp_path / "last.ckpt"))
    assert load_parts(tmp_path / "model.safetensors")[1] == codec
    (entry,) = onnx.load(tmp_path / "model.onnx").metadata_props
    assert json.loads(entry.value)["codec"] == codec.to_plain()
    capsys.readouterr()
    written = []
    for name in ("last.ckpt", "model.safetensors"):
        generate(Generate(checkpoint=str(tmp_path / name), prompt="the dog ate\nthe", length=9, seed=1))
        out, err = capsys.readouterr()
        assert err == "caution: prompt: 'dog', 'ate' not in the vocabulary, read as <unk>\n"
        assert out.startswith("the dog ate\nthe")
        assert set(out.removeprefix("the dog ate\nthe").split()) <= {"cat", "the", "é", "<unk>"}
        assert not re.search(r"  |\n \S", out)
        written.append(out)
    assert written[0] == written[1]


def test_without_onnx_weights_are_still_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path / "last.ckpt", *KINDS["embedding"])
    monkeypatch.delitem(sys.modules, "throughline.runs.onnx_step", raising=False)
    monkeypatch.delattr("throughline.runs.onnx_step", raising=False)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"^onnx=true needs onnxruntime, which is not installed: pip install .* onnx=false$"):
        export(asked(tmp_path / "last.ckpt"))
    assert not (tmp_path / "model.safetensors").exists()
    export(asked(tmp_path / "last.ckpt", onnx=False))
    assert load_parts(tmp_path / "model.safetensors")[1].symbols == LETTERS.symbols


@pytest.mark.parametrize("which", [1, 2, 3])
def test_a_full_disk_leaves_all_files_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: int) -> None:
    out = tmp_path / "out"
    saved(tmp_path / "old.ckpt", *KINDS["embedding"])
    export(asked(tmp_path / "old.ckpt", out=str(out)))
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    saved(tmp_path / "new.ckpt", *KINDS["one-hot"])
    calls, fsync = [], os.fsync

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == which:
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match=r"out: No space left on device; nothing can be exported there, give out=FOLDER"):
        export(asked(tmp_path / "new.ckpt", out=str(out)))
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_nothing_but_the_model_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "c0ffee" * 6
    monkeypatch.setenv("WANDB_API_KEY", secret)
    folder = tmp_path / "private"
    optimizer = {"state": {0: {"note": secret}}, "param_groups": []}
    saved(folder / "last.ckpt", *KINDS["embedding"], callbacks={"note": secret}, optimizer_states=[optimizer])
    assert secret.encode() in (folder / "last.ckpt").read_bytes()
    export(asked(folder / "last.ckpt", out=str(tmp_path / "out")))
    for path in (tmp_path / "out").iterdir():
        content = path.read_bytes()
        for private in (secret, "private", str(tmp_path), str(PROJECT)):
            assert private.encode() not in content


def test_generating_and_evaluating_from_an_export_say_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text").write_text("head had a bad cab. " * 20)
    saved(tmp_path / "last.ckpt", LSTM(hidden_size=6, num_layers=2), Characters(sorted(set("head had a bad cab. "))))
    export(asked(tmp_path / "last.ckpt"))
    told = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in told] == [
        str(tmp_path / name) for name in ("model.safetensors", "model.json", "model.onnx")
    ]
    assert re.search(r"its predictions differ from PyTorch's by at most \d\.\de-0\d over 32 carried steps$", told[2])
    said = []
    for name in ("last.ckpt", "model.safetensors"):
        file = str(tmp_path / name)
        generate(Generate(file, "a", length=200, num_sequences=2, temperature=0.9, seed=7))
        evaluate(Evaluate(file, "val", data=Text(str(tmp_path / "text"))))
        said.append(capsys.readouterr().out.replace(file, ""))
    assert said[0] == said[1]
    assert "val/nll_reset" in said[0]


def test_subwords_survive_an_export(tmp_path: Path) -> None:
    codec = Bpe(vocab_size=260).fit(["the quick brown fox. " * 9])
    model = saved(tmp_path / "last.ckpt", LSTM(hidden_size=4), codec)
    export(asked(tmp_path / "last.ckpt"))
    generator, exported, _ = load_parts(tmp_path / "model.safetensors")
    assert exported == codec
    assert generator.vocab_size == model.vocab_size == codec.size
    description = json.loads((tmp_path / "model.json").read_text())
    (entry,) = onnx.load(tmp_path / "model.onnx").metadata_props
    for about in (description, json.loads(entry.value)):
        tokenizer = Tokenizer.from_str(about["codec"]["tokenizer"])  # without throughline
        assert [id + 1 for id in tokenizer.encode("the fox é").ids] == codec.encode("the fox é").tolist()
    texts = [load(tmp_path / name).generate("the", 20, seed=1) for name in ("last.ckpt", "model.safetensors")]
    assert texts[0] == texts[1]


def test_a_table_that_is_not_the_checkpoints_is_refused(tmp_path: Path) -> None:
    codec = Bpe(vocab_size=256).fit([""])
    other = Bpe(vocab_size=257).fit(["aaaa"])
    for end in (codec, codec.with_end()):
        saved(tmp_path / "last.ckpt", LSTM(hidden_size=2), end)
        for same in (None, codec, Bpe()):  # one without a table claims none
            assert load_parts(tmp_path / "last.ckpt", codec=same)[1] == end
        with pytest.raises(UserError, match=r"^codec=bpe: its table is not that of the checkpoint; leave codec= out$"):
            load_parts(tmp_path / "last.ckpt", codec=other)


@pytest.mark.parametrize(
    ("codec", "same", "other", "refused"),
    [
        (
            Words(min_count=2).fit(["a a b"]),
            [Words(), Words(min_count=2)],
            Words(max_vocab=3),
            r"max_vocab=3: .*with None",
        ),
        (Words().fit(["a a b"]), [Words(min_count=1)], Words(min_count=2), r"min_count=2: .*with 1"),
        (Bpe().fit([""]), [Bpe()], Bpe(vocab_size=300), r"vocab_size=300: .*with None"),
        (Symbols().fit([["a"]]), [Symbols()], Symbols(between=","), r"between=,: .*with None"),
        (
            Frames().fit([np.eye(2)]),
            [Frames(), Frames(features=2)],
            Frames(kind="real"),
            r"kind=real: .*with multi_hot",
        ),
    ],
    ids=lambda part: part.name if isinstance(part, Codec) else "",
)
def test_settings_of_a_codec_that_are_not_the_checkpoints_are_refused(
    codec: Codec, same: list[Codec], other: Codec, refused: str, tmp_path: Path
) -> None:
    saved(tmp_path / "last.ckpt", LSTM(hidden_size=2), codec)
    for chosen in same:
        assert load_parts(tmp_path / "last.ckpt", codec=chosen)[1] == codec
    with pytest.raises(UserError, match=rf"^codec\.{refused}; leave codec= out$"):
        load_parts(tmp_path / "last.ckpt", codec=other)
