"""A checkpoint with a valid seal may hold anything: each variant is refused in one line, or is the same model."""

import copy
import io
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers import fox, run, sealed
from throughline.plumbing.errors import UserError
from throughline.runs import checkpoint
from throughline.runs.checkpoint import load_parts, read

VALUES: dict[str, Any] = {
    "None": None,
    "text": "x\x1b[2J",
    "list": [1, [2]],
    "dict": {"a": 1},
    "huge": 10**30,
    "negative": -1,
    "nan": float("nan"),
    "bool": True,
    "tensor": torch.zeros(3),
}
SIZES = {
    **{
        f"{key}={value}": {key: value} for key in ("hidden_size", "num_layers", "embedding_size") for value in (10**6, 2**62)
    },
    "another core": {"core": "gru"},
    "a core of nobody": {"core": "os.system"},
    "one-hot": {"input": "onehot"},
    "tied": {"tie_weights": True},
    "forget bias": {"forget_bias": float("inf")},
}
TENSORS: dict[str, Callable[[torch.Tensor], Any]] = {
    "expanded": lambda w: torch.zeros(1).expand(w.shape),
    "transposed": lambda w: w.t() if w.dim() == 2 else w[::2],
    "flat": lambda w: w.flatten()[:-1],
    "half": lambda w: w.half(),
    "integers": lambda w: w.long(),
    "sparse": lambda w: w.to_sparse(),
    "infinite": lambda w: w + torch.inf,
    "not a number": lambda w: w * torch.nan,
    "complex": lambda w: w.to(torch.complex64),
    "a parameter": lambda w: torch.nn.Parameter(w),
    "empty": lambda w: w[:0],
}


BOMB: list[Any] = ["x" * 100]
"""A few hundred bytes in a file, and more than any memory as text."""
for _ in range(60):
    BOMB = [BOMB, BOMB]
ROWS = {"train": (torch.zeros(1, 3, 16), torch.zeros(1, 3, 16))}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("whole")
    run(fox(), folder, *CHOSEN)
    return read(folder / "checkpoints" / "last.ckpt")


CHOSEN = ("regime.streams=4", "regime.bptt=16", "trainer.max_epochs=1")


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in a checkpoint."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        yield (*path, key)
        if isinstance(value, dict | list | tuple):
            yield from places(value, (*path, key))


def changed(whole: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy with another value at a place; `...` removes it."""
    if not path:
        return value
    if isinstance(whole, tuple):
        return tuple(changed(part, path[1:], value) if i == path[0] else part for i, part in enumerate(whole))
    other = copy.copy(whole)
    if value is ... and len(path) == 1:
        del other[path[0]]
    else:
        other[path[0]] = changed(whole.get(path[0]) if isinstance(whole, dict) else whole[path[0]], path[1:], value)
    return other


def refusal(work: Callable[[], object]) -> str:
    """The line in which the work is refused; empty if it is not."""
    line = ""
    try:
        work()
    except UserError as error:
        line = str(error)
    assert line.isprintable()
    return line


def loads_or_is_refused(file: Path) -> bool:
    line = refusal(lambda: load_parts(file))
    assert not line or line.startswith(f"checkpoint={file}: ")
    return not line


@pytest.mark.parametrize("name", [*VALUES, "missing"])
def test_another_value_anywhere(name: str, whole: dict[str, Any], tmp_path: Path) -> None:
    refused = 0
    for path in places(whole):
        if len(path) <= 3:
            sealed(changed(whole, path, VALUES.get(name, ...)), tmp_path / "last.ckpt")
            refused += not loads_or_is_refused(tmp_path / "last.ckpt")
    assert refused > 10


@pytest.mark.parametrize("name", SIZES)
def test_other_sizes_are_refused_before_anything_is_built(name: str, whole: dict[str, Any], tmp_path: Path) -> None:
    model = {**whole["throughline"]["model"], **SIZES[name]}
    sealed(changed(whole, ("throughline", "model"), model), tmp_path / "last.ckpt")
    assert not loads_or_is_refused(tmp_path / "last.ckpt")


@pytest.mark.parametrize("name", TENSORS)
def test_other_tensors_are_refused(name: str, whole: dict[str, Any], tmp_path: Path) -> None:
    for key, weight in whole["state_dict"].items():
        sealed(changed(whole, ("state_dict", key), TENSORS[name](weight)), tmp_path / "last.ckpt")
        loaded = loads_or_is_refused(tmp_path / "last.ckpt")
        assert not loaded or name == "a parameter", key


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("callbacks", "Spending"), {"tokens": "many"}),
        (("callbacks", "Spending", "batches"), -1),
        (("callbacks", "Checkpoints"), {}),
        (("callbacks", "MetricLog", "rows"), torch.zeros(9, dtype=torch.uint8)),
        (("callbacks", "MetricLog", "rows"), torch.zeros(2, 2)),
        (("callbacks", "Utilisation"), None),
        (("callbacks", "Utilisation"), ...),
        (("StreamDataModule",), {"epoch": 10**30, "batch": 0}),
        (("StreamDataModule",), ...),
        (("throughline", "carry"), {"train": ()}),
        (("throughline", "carry"), ROWS),
        (("throughline", "carry"), {"train": (torch.zeros(2), "x")}),
        (("throughline", "identity"), {}),
        (("throughline", "updates"), 1.5),
        (("optimizer_states",), []),
        (("optimizer_states",), [{"state": {0: {"exp_avg": torch.zeros(2, 2)}}, "param_groups": []}]),
        (("optimizer_states", 0, "param_groups"), "x"),
        (("optimizer_states", 0, "state"), None),
        (("optimizer_states", 0, "state", 0), []),
        (("optimizer_states", 0, "state", 0, "exp_avg"), torch.zeros(2, 2)),
        (("optimizer_states", 0, "state", 0, "exp_avg"), torch.zeros(())),  # PyTorch would read beyond its end
        (("optimizer_states", 0, "state", 0, "exp_avg_sq"), torch.zeros(1).expand(18, 8)),
        (("optimizer_states", 0, "state", 0, "exp_avg"), torch.zeros(18, 8, dtype=torch.complex64)),
        (("optimizer_states", 0, "param_groups", 0, "lr"), float("nan")),
        (("optimizer_states", 0, "param_groups", 0, "betas"), "unused"),
        (("callbacks", "MetricLog", "nll_sum"), 2**70),
        (("callbacks", "MetricLog", "grad_norm_sum"), float("inf")),
        (("callbacks", "MetricLog", "rows"), torch.zeros(1, dtype=torch.uint8).expand(10**12)),
        (("StreamDataModule",), {"epoch": 1, "batch": 10**14}),
        (("throughline", "carry"), {"train": (torch.zeros(()), torch.zeros(()))}),
        (("throughline", "carry"), {"train": (torch.zeros(1, 4, 16).half(), torch.zeros(1, 4, 16))}),
        (("loops",), {"fit_loop": {}}),
        (("pytorch-lightning_version",), "1.0.0"),
        (("pytorch-lightning_version",), BOMB),
        (("throughline", "identity", "model.core"), BOMB),
        (("throughline", "model", "core"), BOMB),
        (("throughline", "codec", "symbols"), BOMB),
        (("throughline", "format"), BOMB),
        (("throughline", "format"), 10**4000),
        (("state_dict",), {}),
        (("callbacks",), ...),
        (("lr_schedulers",), 7),
        (("global_step",), "x"),
        (("pytorch-lightning_version",), None),
    ],
)
def test_resuming_from_other_contents_is_one_line_or_goes_on(
    path: tuple[Any, ...], value: Any, whole: dict[str, Any], tmp_path: Path
) -> None:
    sealed(changed(whole, path, value), tmp_path / "other.ckpt")
    (tmp_path / "run").mkdir()
    resume = f"resume={tmp_path}/other.ckpt"
    line = refusal(lambda: run(fox(), tmp_path / "run", *CHOSEN[:2], "trainer.max_epochs=2", resume))
    # All states are reset in the next batch, and the settings of the optimizer are those of the run.
    unused = path in (("global_step",), ("optimizer_states", 0, "param_groups", 0, "betas")) or value is ROWS
    assert line or unused
    assert not line or not (tmp_path / "run" / "summary.json").exists()


def test_a_compressed_file_is_refused_before_it_grows(whole: dict[str, Any], tmp_path: Path) -> None:
    sealed(whole, tmp_path / "stored.ckpt")
    content = io.BytesIO()
    with zipfile.ZipFile(tmp_path / "stored.ckpt") as stored, zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as small:
        for name in stored.namelist():
            small.writestr(name, stored.read(name))
    torch.load(io.BytesIO(content.getvalue()), weights_only=True)  # PyTorch takes it
    checkpoint._seal(content)
    (tmp_path / "small.ckpt").write_bytes(content.getvalue())
    assert "not a checkpoint of throughline (BadZipFile)" in refusal(lambda: load_parts(tmp_path / "small.ckpt"))
