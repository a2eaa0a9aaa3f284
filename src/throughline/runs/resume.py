"""Finds the checkpoint that a run resumes from, and refuses one of another run."""

from pathlib import Path
from typing import Any

from throughline.plumbing.errors import UserError
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


def check_identity(saved: dict[str, Any], mine: dict[str, Any], path: Path, origin: str | None = None) -> None:
    """Refuse to continue a run other than the saved one.

    Args:
        saved: the identity in the checkpoint.
        mine: the identity of this run.
        path: the checkpoint.
        origin: the origin of the data of the saved run.

    Raises:
        UserError: a line for each field that differs, with both values.
    """
    differing = [key for key in sorted({*saved, *mine}) if saved.get(key) != mine.get(key)]
    if differing:
        raise UserError(
            "\n".join(
                f"resume: {key} is {mine.get(key)!r} here and {saved.get(key)!r} in {path}"
                + (f", which was trained on {origin}" if origin and key == "data.tokens_sha256" else "")
                for key in differing
            )
        )
