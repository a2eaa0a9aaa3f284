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

FOREIGN = "its description is not of throughline: "
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
    export(asked(tmp_path / "model.safetensors", out=str(tmp_path / "again"), onnx=False))
    for name in ("model.safetensors", "model.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / name).read_bytes()


def test_any_flipped_bit_and_any_cut_is_detected(small: Path) -> None:
    whole, about = small.read_bytes(), description(small)
    assert small.with_suffix(".json").read_text(encoding="utf-8") == about
    for place in range(0, len(whole), 2):
        for content in (_flipped(whole, place), whole[:place]):
            small.write_bytes(content)
            refusal(small)
    small.write_bytes(whole)
    small.with_suffix(".json").unlink()  # a copy for other readers
    load_parts(small)


def description(small: Path) -> str:
    header, _ = portable._parts(small.read_bytes())
    return str(header["__metadata__"]["throughline"])


def _flipped(whole: bytes, place: int) -> bytes:
    return whole[:place] + bytes([whole[place] ^ (1 << place % 8)]) + whole[place + 1 :]


def described(small: Path, **changes: Any) -> None:
    """Change fields of the description (`a__b` is b of a), and seal it again, as an attacker would."""
    plain = json.loads(description(small))
    for names, value in changes.items():
        *groups, key = names.split("__")
        group = plain
        for name in groups:
            group = group[name]
        group[key] = value
    plain["seal"] = hashlib.sha256(json.dumps(plain | {"seal": ""}, sort_keys=True).encode()).hexdigest()
    with_text(small, json.dumps(plain))


def with_text(small: Path, text: str) -> None:
    weights = safetensors.torch.load(small.read_bytes())
    small.write_bytes(portable.with_description(safetensors.torch.save(weights, {"format": "pt"}), text))


def replaced(small: Path, weights: dict[str, torch.Tensor]) -> None:
    """Write other weights, with the right checksum in the description."""
    content = safetensors.torch.save(weights, {"format": "pt"})
    small.write_bytes(portable.with_description(content, description(small)))
    described(small, sha256=hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"format": 1}, "written by another version of throughline, in format 1; this one reads 3"),
        ({"codec": None}, FOREIGN + "'codec': Input should be an object"),
        ({"more\n": 1}, FOREIGN + "'more\\n': Unexpected keyword argument"),
        ({"model___target_": "os.system"}, FOREIGN + "model._target_ is not a key of model: allowed are hidden_size, "),
        ({"model__x\n\x1b": 1}, FOREIGN + "model.'x\\n\\x1b' is not a key of model: allowed are hidden_size, "),
        (
            {"model__core": "os.system"},
            FOREIGN + "model.core='os.system': allowed are gru, layernormlstm, lstm, mingru, minlstm, or your own class",
        ),
        ({"model__core": ["lstm"]}, FOREIGN + "model.core=['lstm']: allowed are gru, layernormlstm, lstm"),
        ({"model__core": "gru"}, FOREIGN + "model.forget_bias is not a key of model"),
        ({"head__name": "x"}, FOREIGN + "head.name='x': allowed are bernoulli, categorical"),
        ({"model__hidden_size": "6"}, FOREIGN + "model.hidden_size='6': input should be a valid integer"),
        ({"model__hidden_size": 0}, FOREIGN + "model.hidden_size=0: input should be greater than 0"),
        ({"model__hidden_size": 7}, NOT_THOSE + "'core.bias_hh_l0' has the shape (24,) instead of (28,)"),
        ({"model__input": "onehot"}, NOT_THOSE + "'core.weight_ih_l0' has the shape (24, 5) instead of (24, 9)"),
        ({"model__num_layers": 2}, NOT_THOSE + "'core.bias_hh_l1' has the shape None instead of (24,)"),
        ({"model__num_layers": 10**9}, "7 tensors are too few for 1000000000 layers"),
        ({"model__hidden_size": 10**9}, "its description lists sizes that no tensor can have"),
        ({"model__embedding_size": 10**30}, FOREIGN + "model.embedding_size=1000000000000000000000000000000: a whole"),
        ({"codec__symbols": list("abc")}, NOT_THOSE + "'head.bias' has the shape (9,) instead of (4,)"),
        ({"codec__symbols": []}, FOREIGN + "codec.symbols=[]: list should have at least 1 item"),
        ({"codec__symbols": [*"abcdefg", ""]}, FOREIGN + "codec.symbols.7='': string should"),
        ({"codec__symbols": [*"abcdefg", "a"]}, FOREIGN + "codec: a symbol occurs twice"),
        ({"codec__symbols": [*"abcdefg", "hi"]}, FOREIGN + "codec: a symbol is longer than one character"),
        ({"codec__name": "symbols", "codec__symbols": [*"abcdefg", " "]}, FOREIGN + "codec: a symbol is empty, or holds"),
        (
            {"codec__name": "letters"},
            FOREIGN + "codec.name='letters': allowed are bpe, bytes, characters, frames, ids",
        ),
        ({"sha256": "0" * 64}, "damaged: its checksum differs"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(small: Path, changes: dict[str, Any], line: str) -> None:
    described(small, **changes)
    assert refusal(small).startswith(line)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "Invalid JSON: EOF while parsing"),
        ("rubbish", "Invalid JSON: expected value"),
        ("[" * 10**5, "Invalid JSON: recursion limit exceeded"),
        ("[]", "Input should be an object"),
        ("{}", "'format': Field required"),
    ],
)
def test_a_foreign_description_is_refused(small: Path, text: str, line: str) -> None:
    with_text(small, text)
    assert refusal(small).startswith(FOREIGN + line)


def test_an_oversized_description_is_not_read(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portable, "DESCRIPTION_LIMIT", 100)
    assert refusal(small) == "its header has more than the allowed 100 bytes"


def test_a_missing_file_and_one_of_an_earlier_version_are_named(small: Path) -> None:
    weights = safetensors.torch.load(small.read_bytes())
    small.write_bytes(safetensors.torch.save(weights, {"format": "pt"}))
    assert refusal(small) == "written by an earlier version of throughline; export it again from its checkpoint"
    small.with_suffix(".json").unlink()
    assert refusal(small) == "not an export of throughline, or damaged"
    small.unlink()
    assert refusal(small) == "No such file or directory; give a .safetensors file of src/export.py"


def test_weights_that_do_not_fit_are_refused_though_their_checksum_is_right(small: Path) -> None:
    weights = safetensors.torch.load(small.read_bytes())
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
        (
            weights | {"head.bias": torch.full_like(weights["head.bias"], torch.nan)},
            "'head.bias' holds values that are not finite",
        ),
        (
            weights | {"core.weight_hh_l0": weights["core.weight_hh_l0"] / 0},
            "'core.weight_hh_l0' holds values that are not finite",
        ),
    ):
        replaced(small, other)
        assert refusal(small).startswith(line)
    replaced(small, weights)
    load_parts(small)


@pytest.mark.parametrize(
    "content",
    [
        *((10**15).to_bytes(8, "little") + b"{}", b"", b"\0" * 8, (2).to_bytes(8, "little") + b"{}"),
        *((4).to_bytes(8, "little") + b"null", (20).to_bytes(8, "little") + b'{"__metadata__": []}', b"PK\3\4" * 9),
        (2**20).to_bytes(8, "little") + b"[" * 2**20,
    ],
)
def test_another_file_is_refused(small: Path, content: bytes) -> None:
    small.write_bytes(content)
    small.with_suffix(".json").unlink()
    assert refusal(small)


def test_files_that_would_run_code_are_refused_and_do_not(small: Path) -> None:
    owned = small.parent / "owned"
    payload = pickle.dumps(Payload(owned))
    (small.parent / "model.onnx").write_bytes(payload)  # beside the weights; nothing reads it
    (small.parent / "model.json").write_bytes(payload)
    load_parts(small)
    sealed({"throughline": Payload(owned)}, small.parent / "evil.ckpt")
    for content in (payload, (small.parent / "evil.ckpt").read_bytes()):
        small.write_bytes(content)
        assert refusal(small)
    with pytest.raises(UserError, match="UnpicklingError"):
        export(asked(small.parent / "evil.ckpt", out=str(small.parent / "out")))
    assert not (small.parent / "out").exists()
    assert not owned.exists()
    pickle.loads(payload)
    assert owned.exists()  # the payload works
