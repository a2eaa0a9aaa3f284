"""An estimate of the memory that settings need, against what the machine has.

It is a lower bound: only what certainly cannot work is refused, before anything is built.
"""

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from throughline.config import Config
from throughline.data.corpus import Corpus
from throughline.model.settings import MinGRU, Model
from throughline.plumbing.errors import UserError

S = TypeVar("S")

LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""The files in which Linux keeps the limit of a container, in two versions."""


def of_machine() -> float:
    """The bytes of memory of this machine, or of the container; infinite where Linux does not tell."""
    limits = [float("inf")]
    info = Path("/proc/meminfo")
    if info.exists():
        limits.append(int(info.read_text(encoding="ascii").split("MemTotal:")[1].split()[0]) * 1024)
    for file in map(Path, LIMITS):
        if file.exists() and (text := file.read_text(encoding="ascii").strip()).isdecimal():
            limits.append(int(text))
    return min(limits)


def parameters(model: Model, vocab: int, frames: bool = False) -> int:
    """The fewest weights that a network of these sizes has: those of a minGRU."""
    embedded = model.input == "embedding" and not frames
    width = model.embedding_size if embedded else vocab
    expansion = model.expansion if isinstance(model, MinGRU) else 0  # of an MLP with two matrices
    layers = model.hidden_size * (width + 2 * model.num_layers * (1 + expansion) * model.hidden_size)
    return layers + vocab * model.hidden_size + (vocab * model.embedding_size if embedded else 0)


def of_training(config: Config, corpus: Corpus) -> int:
    """The fewest bytes that a run needs: weights with gradient and moments, a batch, and the carried state."""
    rows, steps = (min(size, corpus.train.num_targets) for size in config.regime.shape)
    vocab, model = corpus.codec.size, config.model
    per_step = 2 * (vocab + 4 * model.hidden_size * model.num_layers)  # in bfloat16
    with_gradient = max(1, steps - getattr(config.regime, "burn_in", 0))
    batch = rows * with_gradient * per_step
    return 12 * parameters(model, vocab, corpus.train.frames) + batch + 8 * rows * (1 + model.hidden_size * model.num_layers)


def of_generating(model: Model, vocab: int, num_sequences: int, length: int) -> int:
    """The fewest bytes that generation needs: states, logits, and the steps of several sequences until they are written."""
    steps = 8 * length if num_sequences > 1 else 0
    return num_sequences * (8 * model.hidden_size * model.num_layers + 4 * vocab + steps)


def refuse_too_much(settings: S, estimate: Callable[[S], int]) -> None:
    """Refuse settings that need more memory than the machine has.

    Raises:
        UserError: it names the key whose default would lower the estimate most.
    """
    needed, there = estimate(settings), of_machine()
    if needed <= there:
        return
    costs = [(key, value, estimate(usual)) for key, value, usual in _with_defaults(settings)]
    if not costs:  # all are at their defaults, so it must be the vocabulary
        raise UserError(
            f"data: at least {_shown(needed)} of memory are needed for so many different symbols, "
            f"this machine has {_shown(there)}; give data with fewer"
        )
    key, value, _ = min(costs, key=lambda c: c[2])
    raise UserError(
        f"{key}={value}: at least {_shown(needed)} of memory are needed with it, this machine has {_shown(there)}; "
        "give a smaller number"
    )


def _with_defaults(settings: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Each number that is not its default: its key, its value, and the settings with the default in its place."""
    for field in fields(settings):
        value = getattr(settings, field.name)
        if is_dataclass(value):
            for key, inner, usual in _with_defaults(value, f"{prefix}{field.name}."):
                yield key, inner, replace(settings, **{field.name: usual})
        elif isinstance(value, int) and value != field.default and isinstance(field.default, int | None):
            yield f"{prefix}{field.name}", value, replace(settings, **{field.name: field.default})


def _shown(size: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            return f"{size:,.0f} {unit}"
        size /= 1024
    return f"{size:,.0f} PiB"
