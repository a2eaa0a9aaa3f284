import contextlib
import hashlib
import io
import json
import os
import pickle
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors.torch
import torch

from conftest import PROJECT
from test_checkpoint import Payload, sealed
from throughline import __version__
from throughline.commands.export import export
from throughline.config import EvaluateConfig, Evaluation, ExportConfig, GenerateConfig, Model
from throughline.data.sources.text import Text
from throughline.data.vocab import Vocab
from throughline.evaluation.measure import report
from throughline.model.generation import generate, stream
from throughline.model.generator import LSTMGenerator
from throughline.plumbing.errors import UserError
from throughline.runs import checkpoint, portable
from throughline.runs.checkpoint import load_generator
from throughline.training.learner import Learner

LETTERS = Vocab("abcdefgh")
KINDS = {
    "embedding": (Model(hidden_size=6, embedding_size=5), LETTERS),
    "tied, three layers": (Model(hidden_size=6, num_layers=3, embedding_size=6, tie_weights=True, dropout=0.5), LETTERS),
    "one-hot": (Model(hidden_size=6, num_layers=2, input="onehot"), LETTERS),
    "one-hot by rows": (Model(hidden_size=6, input="onehot"), Vocab([f"e{i}" for i in range(299)], " ")),
    "one-hot by rows, two layers": (
        Model(hidden_size=6, num_layers=2, input="onehot"),
        Vocab([f"e{i}" for i in range(299)], " "),
    ),
}
FOREIGN = "its .json file is not of throughline: "
NOT_THOSE = "not the weights that its .json file tells of: "


def saved(path: Path, sizes: Model, vocab: Vocab, dtype: torch.dtype = torch.float32, **extra: Any) -> LSTMGenerator:
    """A model with weights large enough that state matters, saved as a run saves it."""
    torch.manual_seed(0)
    model = LSTMGenerator(sizes, len(vocab)).to(dtype).eval()
    for parameter in model.parameters():
        parameter.data *= 3
    learner = Learner(model, vocab)
    content: dict[str, Any] = {"state_dict": learner.state_dict(), **extra}
    learner.on_save_checkpoint(content)
    checkpoint.write(content, path)
    return model


def asked(path: Path, **changes: Any) -> ExportConfig:
    return ExportConfig(**{"checkpoint": str(path), "output": None, "onnx": True, "tolerance": 1e-4, **changes})


def refusal(path: Path) -> str:
    """The one line with which a file is refused, without the name that it begins with."""
    with pytest.raises(UserError) as error:
        load_generator(path)
    line, start = str(error.value), f"checkpoint={path}: "
    assert line.startswith(start)
    assert len(line.splitlines()) == 1
    return line.removeprefix(start)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """The weights file of a small exported model."""
    saved(tmp_path / "last.ckpt", *KINDS["embedding"])
    export(asked(tmp_path / "last.ckpt", onnx=False))
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_what_comes_back_is_the_same_bit_for_bit(tmp_path: Path, kind: str, dtype: torch.dtype) -> None:
    sizes, vocab = KINDS[kind]
    saved(tmp_path / "last.ckpt", sizes, vocab, dtype)
    export(asked(tmp_path / "last.ckpt", onnx=False))
    original, _ = load_generator(tmp_path / "last.ckpt")
    model, table = load_generator(tmp_path / "model.safetensors")
    assert (model.sizes, table.to_plain(), model.training) == (sizes, vocab.to_plain(), False)
    assert model.head.weight.dtype == dtype
    assert (model.embedding is not None and model.head.weight is model.embedding.weight) == sizes.tie_weights
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, original.get_parameter(name))
        assert parameter.stride() == original.get_parameter(name).stride()
    tokens = torch.randint(len(vocab), (3, 50), generator=torch.Generator().manual_seed(1))
    assert torch.equal(model(tokens)[0], original(tokens)[0])
    export(asked(tmp_path / "model.safetensors", output=str(tmp_path / "again"), onnx=False))
    for name in ("model.safetensors", "model.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / name).read_bytes()


def test_the_description_in_full(tmp_path: Path) -> None:
    saved(tmp_path / "last.ckpt", Model(hidden_size=2, embedding_size=3), Vocab("a\n"))
    export(asked(tmp_path / "last.ckpt"))
    weights = (tmp_path / "model.safetensors").read_bytes()
    expected = {
        "format": 1,
        "throughline": __version__,
        "model": {
            **{"hidden_size": 2, "num_layers": 1, "input": "embedding", "embedding_size": 3},
            **{"dropout": 0.0, "tie_weights": False, "forget_bias": 0.0},
        },
        "vocab": {"symbols": ["a", "\n"], "separator": ""},
        "sha256": hashlib.sha256(weights).hexdigest(),
        "seal": "",
    }
    expected["seal"] = hashlib.sha256(json.dumps(expected, sort_keys=True).encode()).hexdigest()
    assert json.loads((tmp_path / "model.json").read_text()) == expected
    (entry,) = onnx.load(tmp_path / "model.onnx").metadata_props
    assert (entry.key, json.loads(entry.value)) == ("throughline", expected)
    assert {name: list(weight.shape) for name, weight in safetensors.torch.load(weights).items()} == {
        "embedding.weight": [3, 3],
        "lstm.weight_ih_l0": [8, 3],
        "lstm.weight_hh_l0": [8, 2],
        "lstm.bias_ih_l0": [8],
        "lstm.bias_hh_l0": [8],
        "head.weight": [3, 2],
        "head.bias": [3],
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "last.ckpt",
        "model.json",
        "model.onnx",
        "model.safetensors",
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("B", [1, 3])
def test_the_graph_steps_as_the_model_reads(tmp_path: Path, kind: str, dtype: torch.dtype, B: int) -> None:  # noqa: N803
    sizes, vocab = KINDS[kind]
    model = saved(tmp_path / "last.ckpt", sizes, vocab, dtype)
    export(asked(tmp_path / "last.ckpt"))
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    tokens = torch.randint(len(vocab), (B, 40), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        whole, state = model(tokens)
    zeros = np.zeros((sizes.num_layers, B, 6), dtype=np.float32)
    h = c = zeros
    logits, fresh = [], []
    for token in tokens.split(1, dim=1):
        fresh.append(session.run(None, {"token": token.numpy(), "h": zeros, "c": zeros})[0])
        step, h, c = session.run(None, {"token": token.numpy(), "h": h, "c": c})
        logits.append(step)
    np.testing.assert_allclose(np.stack(logits, axis=1), whole, rtol=0, atol=1e-5)
    np.testing.assert_allclose(h, state[0], rtol=0, atol=1e-5)
    np.testing.assert_allclose(c, state[1], rtol=1e-5, atol=1e-5)  # some are as large as 30
    assert np.abs(np.stack(fresh, axis=1) - whole.numpy()).max() > 0.1  # the state does matter


@pytest.mark.parametrize("kind", KINDS)
def test_the_graph_is_one_lstm_a_layer_and_little_besides(tmp_path: Path, kind: str) -> None:
    model = saved(tmp_path / "last.ckpt", *KINDS[kind])
    export(asked(tmp_path / "last.ckpt"))
    graph = onnx.load(tmp_path / "model.onnx").graph
    read = "OneHot" if model.embedding is None else "Gather"
    lstms = ["LSTM"] * model.sizes.num_layers
    expected = ["Transpose", read, "Split", "Split", *lstms, "Concat", "Concat", "Squeeze", "Gemm"]
    assert [node.op_type for node in graph.node] == expected
    floats = [tensor for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT]
    numbers = sum(int(np.prod(tensor.dims)) for tensor in floats) - 2 * (read == "OneHot")
    assert numbers == sum(parameter.numel() for parameter in model.parameters())  # none is there twice


def test_a_graph_that_computes_something_else_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path / "last.ckpt", *KINDS["embedding"])
    monkeypatch.setattr("throughline.runs.onnx_step._in_onnx_order", lambda gates: gates)  # PyTorch's order of the gates
    with pytest.raises(UserError, match=r"^onnx: its logits differ .* more than tolerance=0.0001; no file was written$"):
        export(asked(tmp_path / "last.ckpt", output=str(tmp_path / "out")))
    monkeypatch.undo()
    assert not (tmp_path / "out").exists()
    export(asked(tmp_path / "last.ckpt", output=str(tmp_path / "out")))
    assert len(list((tmp_path / "out").iterdir())) == 3


def test_a_model_that_says_nan_is_not_written(tmp_path: Path) -> None:
    model = saved(tmp_path / "last.ckpt", *KINDS["embedding"])
    model.head.bias.data[3] = torch.nan
    content: dict[str, Any] = {"state_dict": Learner(model, LETTERS).state_dict()}
    Learner(model, LETTERS).on_save_checkpoint(content)
    checkpoint.write(content, tmp_path / "nan.ckpt")
    with pytest.raises(UserError, match="at most nan"):
        export(asked(tmp_path / "nan.ckpt"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.ckpt", "nan.ckpt"]


def test_a_graph_beyond_what_one_file_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path / "last.ckpt", *KINDS["embedding"])
    monkeypatch.setattr("onnx.checker.MAXIMUM_PROTOBUF", 1000)
    with pytest.raises(
        UserError, match=r"^onnx: the graph has [\d,]+ bytes, and one ONNX file at most 2 GiB; give onnx=false$"
    ):
        export(asked(tmp_path / "last.ckpt"))


def test_without_onnx_weights_are_still_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path / "last.ckpt", *KINDS["embedding"])
    monkeypatch.delitem(sys.modules, "throughline.runs.onnx_step", raising=False)
    monkeypatch.delattr("throughline.runs.onnx_step", raising=False)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"^onnx=true needs onnxruntime, which is not installed: pip install .* onnx=false$"):
        export(asked(tmp_path / "last.ckpt"))
    assert not (tmp_path / "model.safetensors").exists()
    export(asked(tmp_path / "last.ckpt", onnx=False))
    assert load_generator(tmp_path / "model.safetensors")[1].symbols == LETTERS.symbols


@pytest.mark.parametrize("which", [1, 2, 3])
def test_a_full_disk_leaves_all_files_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: int) -> None:
    out = tmp_path / "out"
    saved(tmp_path / "old.ckpt", *KINDS["embedding"])
    export(asked(tmp_path / "old.ckpt", output=str(out)))
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    saved(tmp_path / "new.ckpt", *KINDS["one-hot"])
    calls, fsync = [], os.fsync

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == which:
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match=r"out: No space left on device; nothing can be exported there, give output=FOLDER"):
        export(asked(tmp_path / "new.ckpt", output=str(out)))
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_any_flipped_bit_and_any_cut_is_detected(small: Path) -> None:
    whole = small.read_bytes()
    for place in range(0, len(whole), 3):
        small.write_bytes(_flipped(whole, place))
        assert refusal(small).startswith("damaged")
        small.write_bytes(whole[:place])
        assert refusal(small).startswith("damaged")
    small.write_bytes(whole)
    about = small.with_suffix(".json")
    whole = about.read_bytes()
    for place in range(len(whole) - 1):  # without the line break at its end it says the same
        for content in (_flipped(whole, place), whole[:place]):
            about.write_bytes(content)
            with contextlib.suppress(ValueError):
                if json.loads(content) == json.loads(whole):  # a tab instead of a space
                    continue
            assert refusal(small).startswith("its .json file is ")


def _flipped(whole: bytes, place: int) -> bytes:
    return whole[:place] + bytes([whole[place] ^ (1 << place % 8)]) + whole[place + 1 :]


def described(small: Path, **changes: Any) -> None:
    """Change fields of the description (`a__b` is b of a), and seal it anew, as one who means harm would."""
    plain = json.loads(small.with_suffix(".json").read_text())
    for names, value in changes.items():
        *groups, key = names.split("__")
        group = plain
        for name in groups:
            group = group[name]
        group[key] = value
    plain["seal"] = hashlib.sha256(json.dumps(plain | {"seal": ""}, sort_keys=True).encode()).hexdigest()
    small.with_suffix(".json").write_text(json.dumps(plain))


def replaced(small: Path, weights: dict[str, torch.Tensor] | bytes) -> None:
    """Other weights, with a description whose checksum is theirs."""
    content = weights if isinstance(weights, bytes) else safetensors.torch.save(weights)
    small.write_bytes(content)
    described(small, sha256=hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"format": 2}, FOREIGN + "'format': Input should be 1"),
        ({"vocab": None}, FOREIGN + "'vocab': Input should be an object"),
        ({"more\n": 1}, FOREIGN + "'more\\n': Unexpected keyword argument"),
        (
            {"model___target_": "os.system"},
            FOREIGN + "'model._target_': Unexpected keyword argument",
        ),
        (
            {"model__hidden_size": "6"},
            FOREIGN + "'model.hidden_size': Input should be a valid integer",
        ),
        (
            {"model__hidden_size": 0},
            FOREIGN + "'model.hidden_size': Input should be greater than 0",
        ),
        (
            {"model__hidden_size": 7},
            NOT_THOSE + "'head.weight' has the shape (9, 6) instead of (9, 7)",
        ),
        (
            {"model__input": "onehot"},
            NOT_THOSE + "'embedding.weight' has the shape (9, 5) instead of None",
        ),
        (
            {"model__num_layers": 2},
            NOT_THOSE + "'lstm.bias_hh_l1' has the shape None instead of (24,)",
        ),
        ({"model__num_layers": 10**9}, "7 tensors are too few for 1000000000 layers"),
        ({"model__hidden_size": 10**9}, "its .json file tells of sizes that no tensor can have"),
        ({"model__embedding_size": 10**30}, "its .json file tells of sizes that no tensor can have"),
        (
            {"vocab__symbols": list("abc")},
            NOT_THOSE + "'embedding.weight' has the shape (9, 5) instead of (4, 5)",
        ),
        ({"vocab__symbols": []}, FOREIGN + "'vocab.symbols': List should have at least 1 item"),
        ({"vocab__symbols": [*"abcdefg", ""]}, FOREIGN + "'vocab.symbols.7': String should"),
        (
            {"vocab__symbols": [*"abcdefg", "a"]},
            FOREIGN + "'vocab': Value error, a symbol is there",
        ),
        (
            {"vocab__symbols": [*"abcdefg", "hi"]},
            FOREIGN + "'vocab': Value error, a symbol is longer",
        ),
        ({"vocab__separator": "\x1b"}, FOREIGN + "'vocab.separator': Input should be '' or ' '"),
        ({"sha256": "0" * 64}, "damaged, or not the file that model.json tells of: its checksum is another"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(small: Path, changes: dict[str, Any], line: str) -> None:
    described(small, **changes)
    assert refusal(small).startswith(line)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"", "Invalid JSON: EOF while parsing"),
        (b"rubbish", "Invalid JSON: expected value"),
        (b"[" * 10**5, "Invalid JSON: recursion limit exceeded"),
        (b"[]", "Input should be an object"),
        (b"{}", "'format': Field required"),
    ],
)
def test_a_foreign_description_is_refused(small: Path, text: bytes, line: str) -> None:
    small.with_suffix(".json").write_bytes(text)
    assert refusal(small).startswith(FOREIGN + line)


def test_an_oversized_description_is_not_read(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portable, "DESCRIPTION_LIMIT", 100)
    assert refusal(small) == "its .json file has more than the 100 bytes that are allowed"


def test_a_missing_file_is_named(small: Path) -> None:
    rest = "No such file or directory; give a .safetensors file of src/export.py, "
    rest += "with the .json file that belongs to it beside it"
    json_file = small.with_suffix(".json")
    json_file.rename(json_file.with_suffix(".moved"))
    assert refusal(small) == f"{json_file}: {rest}"
    small.unlink()
    assert refusal(small) == f"{small}: {rest}"


def test_weights_that_do_not_fit_are_refused_though_their_checksum_is_right(small: Path) -> None:
    weights = safetensors.torch.load_file(small)
    header = 10**15
    for other, line in (
        ({}, "weights of no type; allowed are all float32 or all float64"),
        ({n: w.half() for n, w in weights.items()}, "weights of torch.float16; allowed are all float32 or all float64"),
        (
            weights | {"head.bias": torch.arange(9)},
            "weights of torch.float32, torch.int64; allowed are all float32 or all",
        ),
        (
            weights | {"x\x1b": torch.zeros(0)},
            NOT_THOSE + "'x\\x1b' has the shape (0,)",
        ),
        (
            weights | {"head.bias": torch.zeros(0)},
            NOT_THOSE + "'head.bias' has the",
        ),
        (header.to_bytes(8, "little") + b"{}", "not a safetensors file (SafetensorError)"),
        (b"", "not a safetensors file (SafetensorError)"),
        (small.with_suffix(".json").read_bytes(), "not a safetensors file (SafetensorError)"),
        ((small.parent / "last.ckpt").read_bytes(), "not a safetensors file (SafetensorError)"),
    ):
        replaced(small, other)
        assert refusal(small).startswith(line)
    replaced(small, weights)
    load_generator(small)


def test_files_that_would_run_code_are_refused_and_do_not(small: Path) -> None:
    owned = small.parent / "owned"
    payload = pickle.dumps(Payload(owned))
    (small.parent / "model.onnx").write_bytes(payload)  # beside the weights, where nothing reads it
    load_generator(small)
    sealed({"throughline": Payload(owned)}, small.parent / "evil.ckpt")
    for content in (payload, (small.parent / "evil.ckpt").read_bytes()):
        replaced(small, content)
        assert refusal(small) == "not a safetensors file (SafetensorError)"
        small.with_suffix(".json").rename(small.parent / "kept")
        small.with_suffix(".json").write_bytes(content)
        assert refusal(small).startswith(FOREIGN + "Invalid JSON")
        (small.parent / "kept").rename(small.with_suffix(".json"))
    with pytest.raises(UserError, match="UnpicklingError"):
        export(asked(small.parent / "evil.ckpt", output=str(small.parent / "out")))
    assert not (small.parent / "out").exists()
    assert (small.parent / "model.onnx").read_bytes() == payload
    assert not owned.exists()
    pickle.loads(payload)
    assert owned.exists()  # the payload does work


def test_nothing_but_the_model_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "c0ffee" * 6
    monkeypatch.setenv("WANDB_API_KEY", secret)
    folder = tmp_path / "private"
    saved(folder / "last.ckpt", *KINDS["embedding"], callbacks={"note": secret}, optimizer_states=[secret])
    assert secret.encode() in (folder / "last.ckpt").read_bytes()
    export(asked(folder / "last.ckpt", output=str(tmp_path / "out")))
    for path in (tmp_path / "out").iterdir():
        content = path.read_bytes()
        for private in (secret, "private", str(tmp_path), str(PROJECT)):
            assert private.encode() not in content


def test_generating_and_evaluating_from_an_export_say_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text").write_text("head had a bad cab. " * 20)
    saved(tmp_path / "last.ckpt", Model(hidden_size=6, num_layers=2), Vocab(sorted(set("head had a bad cab. "))))
    export(asked(tmp_path / "last.ckpt"))
    told = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in told] == [
        str(tmp_path / name) for name in ("model.safetensors", "model.json", "model.onnx")
    ]
    assert re.search(r"its logits differ from PyTorch's by at most \d\.\de-0\d over 32 carried steps$", told[2])
    said = []
    for name in ("last.ckpt", "model.safetensors"):
        file = str(tmp_path / name)
        stream(GenerateConfig(file, "a", 200, 2, 0.9, None, None, seed=7))
        report(EvaluateConfig(file, Text(str(tmp_path / "text")), Evaluation()))
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert "val/nll_reset" in said[0]


def test_the_example_in_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block = re.search(r"((?:    .*\n|\n)*?    import onnxruntime\n(?:    .*\n|\n)+)", (PROJECT / "README.md").read_text())
    assert block
    model = saved(tmp_path / "last.ckpt", *KINDS["embedding"])
    export(asked(tmp_path / "last.ckpt"))
    monkeypatch.chdir(tmp_path)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(re.sub(r"^    ", "", block[1], flags=re.MULTILINE), {})
    first = np.array([1])
    expected = LETTERS.decode(row[0] for row in generate(model, first, len(printed.getvalue()), temperature=1e-6))
    assert printed.getvalue() == expected
    assert len(set(expected)) > 1
