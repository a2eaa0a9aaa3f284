"""Finds what a run goes on from."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from throughline.plumbing.errors import UserError


def run_folder(new: str, root: str, resume: str, overrides: Sequence[str]) -> str:
    """The folder of a run: with `auto` and `must` that of the newest unfinished run of the same command, else `new`.

    What goes on from a file gets a folder of its own, too, so that the run which left the file stays as it is.
    """
    if resume not in ("auto", "must"):
        return new
    asked = _apart_from_resume(overrides)
    for file in sorted(Path(root).glob("[0-9]*/*/.hydra/overrides.yaml"), reverse=True):
        folder = file.parent.parent
        if _command(file) == asked and (folder / "checkpoints").exists() and not (folder / "summary.json").exists():
            return str(folder)
    return new


def sweep_folder(new: str, root: str, resume: str, overrides: Sequence[str]) -> str:
    """The folder of a sweep: with `auto` that of the newest sweep by the same command, whose members go on, else `new`."""
    if resume != "auto":
        return new
    asked = _apart_from_resume(overrides)
    for file in sorted(Path(root).glob("multirun/*/*/multirun.yaml"), reverse=True):
        if _command(file, "hydra.overrides.task") == asked:
            return str(file.parent)
    return new


def _command(file: Path, key: str | None = None) -> list[str] | None:
    """The overrides by which a run or a sweep was started; None where the file is damaged."""
    try:
        saved = OmegaConf.load(file)
        return _apart_from_resume(saved if key is None else OmegaConf.select(saved, key))
    except (OSError, UnicodeError, YAMLError, OmegaConfBaseException, AttributeError, TypeError):
        return None


def _apart_from_resume(overrides: Any) -> list[str]:
    return [override for override in overrides if not override.startswith("resume=")]


def checkpoint_to_resume(resume: str, folder: Path) -> tuple[Path | None, dict[str, Any], str]:
    """The checkpoint to go on from, if any: its path, what it holds, and a line that says so.

    Damaged ones are named and passed over.

    Raises:
        UserError: `resume` asks for a checkpoint and there is no intact one.
    """
    from throughline.runs.checkpoint import read  # not before it is needed, since it imports torch

    if resume == "none":
        return None, {}, ""
    candidates = [folder / "last.ckpt", folder / "previous.ckpt"] if resume in ("auto", "must") else [Path(resume)]
    passed_over = []
    for path in candidates:
        if path.exists() or resume not in ("auto", "must"):
            try:
                checkpoint = read(path)
            except UserError as error:
                passed_over.append(str(error).removeprefix("checkpoint="))
                continue
            return path, checkpoint, "\n".join([*passed_over, f"resume: going on from {path}"])
    if resume != "auto":
        raise UserError(
            "\n".join(passed_over) or f"resume={resume}: no checkpoint in {folder}; resume=auto would start anew"
        )
    return None, {}, "\n".join([*passed_over, "resume: nothing to go on from, starting anew"])


def finished_run(folder: Path, resumed: Path, limits: dict[str, Any]) -> dict[str, Any] | None:
    """The summary of the run in `folder`, if `resumed` is its last checkpoint and it ended by the same limits."""
    file = folder / "summary.json"
    if resumed != folder / "checkpoints" / "last.ckpt" or not file.exists():
        return None
    try:
        summary = json.loads(file.read_text())
    except ValueError:  # damaged: the run ends once more, and writes it anew
        return None
    return summary if isinstance(summary, dict) and summary.get("limits") == limits else None


def check_identity(saved: dict[str, Any], mine: dict[str, Any], path: Path) -> None:
    """Refuse to go on with another run than the one that was saved.

    Raises:
        UserError: a line for each field that differs, with both values.
    """
    differing = [key for key in sorted({*saved, *mine}) if saved.get(key) != mine.get(key)]
    if differing:
        raise UserError(
            "\n".join(f"resume: {key} is {mine.get(key)!r} here and {saved.get(key)!r} in {path}" for key in differing)
        )
