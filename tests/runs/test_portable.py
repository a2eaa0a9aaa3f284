import contextlib
import hashlib
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from helpers import KINDS, Payload, asked, saved, sealed
from throughline.commands.export import export
from throughline.plumbing.errors import UserError
from throughline.runs import portable
from throughline.runs.checkpoint import load_parts

FOREIGN = "its .json file is not of throughline: "
NOT_THOSE = "not the weights that its description lists: "


def refusal(path: Path) -> str:
    """The one-line error for a refused file, without the file name at its beginning."""
    with pytest.raises(UserError) as error:
        load_parts(path)
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
    settings, codec = KINDS[kind]
    saved(tmp_path / "last.ckpt", settings, codec, dtype)
    export(asked(tmp_path / "last.ckpt", onnx=False))
    original, *_ = load_parts(tmp_path / "last.ckpt")
    model, read, _ = load_parts(tmp_path / "model.safetensors")
    assert (model.settings, read, model.training) == (settings, codec, False)
    assert model.head.weight.dtype == dtype
    assert (model.head.weight is getattr(model.reader, "weight", None)) == settings.tie_weights
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, original.get_parameter(name))
        assert parameter.stride() == original.get_parameter(name).stride()
    tokens = torch.randint(codec.size, (3, 50), generator=torch.Generator().manual_seed(1))
    assert torch.equal(model(tokens)[0], original(tokens)[0])
    export(asked(tmp_path / "model.safetensors", output=str(tmp_path / "again"), onnx=False))
    for name in ("model.safetensors", "model.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / name).read_bytes()


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
    for place in range(len(whole) - 1):  # without the last line break, its content is the same
        for content in (_flipped(whole, place), whole[:place]):
            about.write_bytes(content)
            with contextlib.suppress(ValueError):
                if json.loads(content) == json.loads(whole):  # a tab instead of a space
                    continue
            assert refusal(small).startswith("its .json file is ")


def _flipped(whole: bytes, place: int) -> bytes:
    return whole[:place] + bytes([whole[place] ^ (1 << place % 8)]) + whole[place + 1 :]


def described(small: Path, **changes: Any) -> None:
    """Change fields of the description (`a__b` is b of a), and seal it again, as an attacker would."""
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
    """Write other weights, with the right checksum in the description."""
    content = weights if isinstance(weights, bytes) else safetensors.torch.save(weights)
    small.write_bytes(content)
    described(small, sha256=hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"format": 1}, "written by another version of throughline, in format 1; this one reads 2"),
        ({"codec": None}, FOREIGN + "'codec': Input should be an object"),
        ({"more\n": 1}, FOREIGN + "'more\\n': Unexpected keyword argument"),
        ({"model___target_": "os.system"}, FOREIGN + "model._target_ is not a key of model: allowed are hidden_size, "),
        ({"model__x\n\x1b": 1}, FOREIGN + "model.'x\\n\\x1b' is not a key of model: allowed are hidden_size, "),
        ({"model__core": "os.system"}, FOREIGN + "model.core='os.system': allowed are gru, lstm, or your own class"),
        ({"model__core": ["lstm"]}, FOREIGN + "model.core=['lstm']: allowed are gru, lstm"),
        ({"model__core": "gru"}, FOREIGN + "model.forget_bias is not a key of model"),
        ({"head__name": "x"}, FOREIGN + "head.name='x': allowed are categorical"),
        ({"model__hidden_size": "6"}, FOREIGN + "model.hidden_size='6': input should be a valid integer"),
        ({"model__hidden_size": 0}, FOREIGN + "model.hidden_size=0: input should be greater than 0"),
        ({"model__hidden_size": 7}, NOT_THOSE + "'core.bias_hh_l0' has the shape (24,) instead of (28,)"),
        ({"model__input": "onehot"}, NOT_THOSE + "'core.weight_ih_l0' has the shape (24, 5) instead of (24, 9)"),
        ({"model__num_layers": 2}, NOT_THOSE + "'core.bias_hh_l1' has the shape None instead of (24,)"),
        ({"model__num_layers": 10**9}, "7 tensors are too few for 1000000000 layers"),
        ({"model__hidden_size": 10**9}, "its description lists sizes that no tensor can have"),
        ({"model__embedding_size": 10**30}, "its description lists sizes that no tensor can have"),
        ({"codec__symbols": list("abc")}, NOT_THOSE + "'head.bias' has the shape (9,) instead of (4,)"),
        ({"codec__symbols": []}, FOREIGN + "codec.symbols=[]: list should have at least 1 item"),
        ({"codec__symbols": [*"abcdefg", ""]}, FOREIGN + "codec.symbols.7='': string should"),
        ({"codec__symbols": [*"abcdefg", "a"]}, FOREIGN + "codec: a symbol occurs twice"),
        ({"codec__symbols": [*"abcdefg", "hi"]}, FOREIGN + "codec: a symbol is longer than one character"),
        ({"codec__name": "symbols", "codec__symbols": [*"abcdefg", "h i"]}, FOREIGN + "codec: a symbol is empty or holds"),
        ({"codec__name": "words"}, FOREIGN + "codec.name='words': allowed are bytes, characters, symbols"),
        ({"sha256": "0" * 64}, "damaged, or not the file that model.json describes: its checksum differs"),
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
    assert refusal(small) == "its .json file has more than the allowed 100 bytes"


def test_a_missing_file_is_named(small: Path) -> None:
    rest = "No such file or directory; give a .safetensors file of src/export.py, "
    rest += "with its .json file beside it"
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
    load_parts(small)


def test_files_that_would_run_code_are_refused_and_do_not(small: Path) -> None:
    owned = small.parent / "owned"
    payload = pickle.dumps(Payload(owned))
    (small.parent / "model.onnx").write_bytes(payload)  # beside the weights; nothing reads it
    load_parts(small)
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
    assert owned.exists()  # the payload works
