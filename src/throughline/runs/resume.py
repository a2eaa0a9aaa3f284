"""Finds the checkpoint that a run resumes from, and refuses one of another run."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch

from throughline.batches.carry import State
from throughline.config import CHANGEABLE
from throughline.model.generator import Generator
from throughline.model.optimizers import Optimizer
from throughline.plumbing.errors import UserError
from throughline.regimes import Cut, Played
from throughline.runs.checkpoint import OtherVersionError, can_be_resumed, read
from throughline.runs.record import Record


def checkpoint_to_resume(resume: str, folder: Path) -> tuple[Path | None, dict[str, Any], str]:
    """The checkpoint to resume from, if any: its path, its contents, and a message for the user.

    The message names damaged checkpoints; these are skipped.

    Raises:
        UserError: `resume` requires a checkpoint and there is no intact one.
    """
    if resume == "none":
        return None, {}, ""
    candidates = [folder / "last.ckpt", folder / "previous.ckpt"] if resume in ("auto", "must") else [Path(resume)]
    passed_over = []
    for path in candidates:
        if path.exists() or resume not in ("auto", "must"):
            try:
                checkpoint = read(path)
            except OtherVersionError as error:  # a start from the beginning would overwrite it
                raise UserError(f"{str(error).removeprefix('checkpoint=')}; resume=none starts a new run") from None
            except UserError as error:
                passed_over.append(str(error).removeprefix("checkpoint="))
                continue
            if not can_be_resumed(checkpoint):
                raise UserError(f"{path}: holds only weights, so no run can be resumed; give last.ckpt or best.ckpt")
            return path, checkpoint, "\n".join([*passed_over, f"resume: continuing from {path}"])
    if resume != "auto":
        raise UserError(
            "\n".join(passed_over)
            or f"resume={resume}: no checkpoint in {folder}; resume=auto would start from the beginning"
        )
    return None, {}, "\n".join([*passed_over, "resume: no checkpoint to continue from, starting from the beginning"])


def finished_run(folder: Path, resumed: Path, limits: dict[str, Any]) -> Record | None:
    """The record of the run in `folder`, if `resumed` is its last checkpoint and it ended with the same limits."""
    if resumed != folder / "checkpoints" / "last.ckpt" or not (folder / "summary.json").exists():
        return None
    try:
        record = Record.read(folder)
        return record if record.limits == limits and not record.changed(folder) else None
    except UserError:  # damaged: the run ends once more, and writes it again
        return None


def check_identity(
    saved: dict[str, Any], mine: dict[str, Any], path: Path, origin: str | None = None, changing: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Refuse to continue a run other than the saved one, and return what changes although it is the same one.

    Args:
        saved: the identity in the checkpoint.
        mine: the identity of this run.
        path: the checkpoint.
        origin: the origin of the data of the saved run.
        changing: how fields begin that may differ.

    Raises:
        UserError: a line for each other field that differs, with both values, and one that says how it could be done.
    """
    unlike = [key for key in sorted({*saved, *mine}) if saved.get(key) != mine.get(key)]
    differing = [key for key in unlike if not any(f"{key}.".startswith(f"{each}.") for each in changing)]
    if differing:
        changeable = all(key.startswith(CHANGEABLE) and key != "optimizer.name" for key in differing)
        way = (
            f"to change it in the middle of the run, give resume=FILE resume_with=[{','.join(differing)}]"
            if changeable
            else f"to begin another run with the weights of this one, give init_from={path}"
        )
        raise UserError(
            "\n".join(
                [
                    *(
                        f"resume: {key} is {mine.get(key)!r} here and {saved.get(key)!r} in {path}"
                        + (f", which was trained on {origin}" if origin and key == "data.tokens_sha256" else "")
                        + (", because the codec or its table is another" if key == "data.vocab_sha256" else "")
                        for key in differing
                    ),
                    way,
                ]
            )
        )
    return [{"setting": key, "before": saved.get(key), "after": mine.get(key)} for key in unlike]


def check_fit(checkpoint: dict[str, Any], generator: Generator, optimizer: Optimizer, following: Cut | Played) -> None:
    """Refuse a carried state or an optimizer's state that this run cannot continue from.

    PyTorch's fused optimizers read and write beyond a state that is too small. Of the optimizer's settings only the learning
    rate is taken from the file, because all others are those of the run.

    Args:
        checkpoint: its optimizer's settings are replaced.
        generator: the generator of this run.
        optimizer: the settings of its optimizer.
        following: the next batch.

    Raises:
        ValueError: a part does not fit.
    """
    if not _continues(checkpoint["throughline"].get("carry", {}).get("train"), generator, following):
        raise ValueError("the carried state is not that of the network and of the next batch")
    if type(optimizer).__module__ != Optimizer.__module__:  # a user's own may keep anything in its state
        return
    own = _after_a_step(generator, optimizer)
    saved, groups = checkpoint["optimizer_states"][0], own["param_groups"]
    alike = len(saved["param_groups"]) == len(groups)
    if not alike or (saved["state"] and _kinds(saved["state"]) != _kinds(own["state"])):
        raise ValueError("the state of the optimizer is not that of the network")
    groups = [
        {**group, "initial_lr": group["lr"], "lr": before["lr"]}
        for group, before in zip(groups, saved["param_groups"], strict=True)
    ]
    checkpoint["optimizer_states"] = [{"state": saved["state"], "param_groups": groups}]


@torch.no_grad()
def _continues(carried: State | None, generator: Generator, following: Cut | Played) -> bool:
    """Whether the network takes this state, and the rows of the next batch continue from it or start from zeros."""
    if carried is None:
        return bool(following.reset.all())
    _, state = generator(generator.empty_inputs(1, 1))
    rows = carried[0].shape[1] if carried[0].dim() > 1 else 0
    # A state that is computed in lower precision is saved in that of the weights.
    types = [torch.promote_types(s.dtype, torch.float32) if s.is_floating_point() else s.dtype for s in state]
    expected = [((s.shape[0], rows, *s.shape[2:]), dtype) for s, dtype in zip(state, types, strict=True)]
    fits = [(tuple(s.shape), s.dtype) for s in carried] == expected
    return fits and rows > 0 and (rows >= len(following.reset) or bool(following.reset.all()))


def _after_a_step(generator: Generator, optimizer: Optimizer) -> dict[str, Any]:
    """The state of a new optimizer for the network after a step, in which all its keys are there."""
    twin = deepcopy(generator).cpu()
    for parameter in twin.parameters():
        parameter.grad = torch.zeros_like(parameter)
    built = optimizer.build_for(twin)
    built.step()
    return dict(built.state_dict())


def _kinds(state: dict[int, dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """The shape and type of each tensor, and the type of everything else."""
    return {
        number: {key: (v.shape, v.dtype) if isinstance(v, torch.Tensor) else type(v) for key, v in values.items()}
        for number, values in state.items()
    }
