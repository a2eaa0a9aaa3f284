"""`src/compare.py`: compares runs in a page, a table and pictures."""

from dataclasses import field, replace
from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from throughline.commands.compose import launch
from throughline.config import Logger
from throughline.plumbing.errors import UserError
from throughline.plumbing.reading import printable
from throughline.plumbing.startup import large_imports, quieten
from throughline.settings import STRICT, PathStr


@dataclass(frozen=True, config=STRICT)
class Compare:
    runs: PathStr | Annotated[list[PathStr], Field(min_length=1)]
    """Folders of runs, or of sweeps."""
    out: PathStr | None = None
    """None: a folder `comparison` in the first folder of `runs`."""
    logger: Logger = Logger()  # frozen
    tags: list[str] = field(default_factory=list)
    """Words by which the comparison is found in W&B."""
    output_root: PathStr = "outputs"
    """The folder that holds the runs of W&B."""

    @property
    def folders(self) -> list[str]:
        return [self.runs] if isinstance(self.runs, str) else self.runs


def compare(settings: Compare) -> None:
    """Compare the runs under the configured folders, and write the report to `out`.

    Raises:
        UserError: there is nothing to compare, or the folder cannot be written.
    """
    with large_imports():
        from rich.console import Console

        from throughline.results import page
        from throughline.results.comparison import per_word, read_each
        from throughline.runs.wandb_log import log_comparison

    quieten()
    each = read_each(settings.folders)
    root = Path(settings.folders[0]) / "comparison" if settings.out is None else Path(settings.out)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    parts, by_word = page.parts(each), per_word(each)
    try:
        pictures = [page.write(one, root / part) for one, part in zip(each, parts, strict=True)]
        if len(each) > 1:
            page.write_index(each, parts, by_word, root)
    except OSError as error:
        raise UserError(f"{printable(root)}: {error.strerror}; give out=FOLDER") from None
    for comparison, part, drawn in zip(each, parts, pictures, strict=True):
        if len(each) > 1:
            console.print(f"{page.data_of(comparison)}:")
        console.print(page.headline(comparison))
        for line in [*comparison.cautions, *(f"{run.where}: {run.fault}" for run in comparison.runs if run.fault)]:
            console.print(line)
        if settings.logger.name == "wandb":
            groups = {str(run.settings["logger.group"]) for run in comparison.runs if run.settings.get("logger.group")}
            logger = replace(settings.logger, group=settings.logger.group or (groups.pop() if len(groups) == 1 else None))
            log_comparison(logger, settings.tags, settings.output_root, root / part, page.tidy(comparison), drawn, console)
    if by_word:
        console.print(f"losses per step of different codecs cannot be compared; {by_word}")
    console.print(f"the comparison is in {printable(root / 'report.html')}")


def main(root: Path | None = None) -> None:
    """Run the command; `root` is the folder that contains `outputs/`, by default the current one."""
    launch("compare", Compare, compare, root)
