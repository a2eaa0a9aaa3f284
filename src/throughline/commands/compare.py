"""`src/compare.py`: compares runs in a page, a table and pictures."""

from dataclasses import replace
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
        from throughline.results.comparison import read
        from throughline.runs.wandb_log import log_comparison

    quieten()
    comparison = read(settings.folders)
    folder = Path(settings.folders[0]) / "comparison" if settings.out is None else Path(settings.out)
    try:
        pictures = page.write(comparison, folder)
    except OSError as error:
        raise UserError(f"{printable(folder)}: {error.strerror}; give out=FOLDER") from None
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(page.headline(comparison))
    for line in [*comparison.cautions, *(f"{run.where}: {run.fault}" for run in comparison.runs if run.fault)]:
        console.print(line)
    if settings.logger.name == "wandb":
        groups = {str(run.settings["logger.group"]) for run in comparison.runs if run.settings.get("logger.group")}
        logger = replace(settings.logger, group=settings.logger.group or (groups.pop() if len(groups) == 1 else None))
        log_comparison(logger, settings.output_root, folder, page.tidy(comparison), pictures, console)
    console.print(f"the comparison is in {printable(folder / 'report.html')}")


def main(root: Path | None = None) -> None:
    """Run the command; `root` is the folder that contains `outputs/`, by default the current one."""
    launch("compare", Compare, compare, root)
