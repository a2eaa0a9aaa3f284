"""`src/score.py`: the score of every step of a text: as CSV, as colours in the terminal, and as a page to look into."""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass
from rich.console import Console
from rich.style import Style
from rich.text import Text

from throughline.commands.compose import launch
from throughline.commands.evaluate import line_of
from throughline.commands.generate import opened
from throughline.data.codecs import Codec
from throughline.data.sources import Source
from throughline.memory import of_machine
from throughline.model.settings import Head, Model
from throughline.plumbing import atomic
from throughline.plumbing.errors import UserError
from throughline.plumbing.progress import progress
from throughline.plumbing.reading import escaped, printable
from throughline.plumbing.startup import large_imports
from throughline.settings import STRICT, PathStr, defaults

if TYPE_CHECKING:
    from throughline.results.surprise import Surprise

HEAT = ("", "#5b4a1e", "#7a4a16", "#96400f", "#b02a12")
"""The backgrounds of the terminal: up to 1, 2, 4 and 6 nats, and above."""
LIMITS = (1.0, 2.0, 4.0, 6.0)
LARGEST = 20_000_000
"""The most symbols: their scores are kept, some hundred bytes each, to find the most surprising ones."""

LARGEST_PAGE = 500_000
"""The most alternatives of all symbols on a page: some 50 MB."""


@dataclass(frozen=True, config=STRICT)
class Score:
    checkpoint: PathStr
    """A `.ckpt` file of a run, or a `.safetensors` file of an export."""
    text: PathStr | None = None
    """A file, which is read with the settings of the run's own data, and is scored as a whole."""
    out: PathStr | None = None
    """A folder for `scores.csv`, and for `score.html`, a page that is complete in itself. None: only the terminal."""
    split: Literal["auto", "train", "val", "test", "all"] = "auto"
    """The part of the data that is scored; `all` is the whole of it. `auto`: `val`, or `all` with `text`."""
    alternatives: Annotated[int, Field(ge=1, le=100)] = 5
    """How many expected symbols are named for each place."""
    first: Annotated[int, Field(ge=0)] = 0
    """How many symbols are passed over before those that are shown."""
    shown: Annotated[int, Field(ge=1, le=100_000)] = 4000
    """The most symbols on the page, and at most 500,000 divided by `alternatives`. All are in the table. A browser needs a
    second per 20,000 of them."""
    lines: Annotated[int, Field(ge=0)] = 20
    """The most lines of the terminal that show the text in colours."""
    worst: Annotated[int, Field(ge=1, le=1000)] = 10
    """How many of the most surprising places are listed, and of the most surprising sequences."""
    data: Source | None = None
    """None: the data of the run."""
    model: Model | None = None
    """Needed only for a user's own class. Give the same choice as in training."""
    codec: Codec | None = None
    """Needed only for a user's own class. Give the same choice as in training."""
    head: Head | None = None
    """Needed only for a user's own class. Give the same choice as in training."""

    def __post_init__(self) -> None:
        if self.shown * self.alternatives > LARGEST_PAGE:
            raise ValueError(
                f"shown={self.shown} with alternatives={self.alternatives}: their product may be up to {LARGEST_PAGE:,}"
            )


def score(settings: Score) -> None:
    """Score every step, and show what surprised the network.

    Raises:
        UserError: the data cannot be read, there is nothing to show, or a file cannot be written.
    """
    console = Console(highlight=False, markup=False, soft_wrap=True)
    aside = Console(highlight=False, markup=False, soft_wrap=True, stderr=True)
    with large_imports():
        from throughline.evaluation.scoring import Scores, scored
        from throughline.results.surprise import Surprise
        from throughline.runs.trained import load as load_trained

    trained = load_trained(settings.checkpoint, settings.model, settings.codec, settings.head)
    with progress("reading data", aside):
        corpus, line, split = line_of(trained, settings.data, settings.text, settings.split, "text")
    if line.frames:
        usual = defaults(Score)
        for key in ("alternatives", "first", "shown", "lines"):
            if (value := getattr(settings, key)) != usual[key]:
                raise UserError(
                    f"{key}={value}: is for symbols, and these are frames, which have the table alone; leave it out"
                )
    if settings.first >= line.num_targets:
        raise UserError(f"first={settings.first}: there are {line.num_targets:,} scored symbols; allowed is less than that")
    if line.num_targets > LARGEST:
        raise UserError(
            f"{split}: {line.num_targets:,} symbols; allowed are up to {LARGEST:,} at once, give text=FILE with a part"
        )
    needed = line.num_targets * (32 + 16 * min(settings.alternatives, trained.codec.size))
    if needed > of_machine():
        raise UserError(
            f"{split}: the scores of {line.num_targets:,} symbols with {settings.alternatives} alternatives each take "
            f"{needed / 2**30:.1f} GiB, more than this machine has; give text=FILE with a part, or fewer alternatives"
        )
    folder = None if settings.out is None else Path(settings.out)
    if folder is not None:
        with writing(settings.out):  # before the work
            folder.mkdir(parents=True, exist_ok=True)
    parts: list[Scores] = []
    with progress("scoring", aside) as work:
        parts = list(scored(trained.generator, line, settings.alternatives, work.advance))
    scores = Scores.joined(parts)
    where = f"{corpus.fingerprint['source']}, split {split}"
    surprise = Surprise(scores, line, trained.codec, where, settings.worst)
    for text in surprise.summary():
        console.print(text)
    if not line.frames:
        shown = surprise.shown(settings.first, settings.shown)
        console.print()
        console.print(coloured(surprise, shown, settings.lines, console.width))
    for text in surprise.report():
        console.print(text)
    if folder is None:
        console.print("out=FOLDER keeps a table of all scores and a page to look into")
        return
    if not line.frames:
        page = surprise.page(trained.generator, shown, Path(settings.checkpoint).name)
        with writing(settings.out):
            atomic.write({folder / "score.html": page.encode()})
    with opened(str(folder / "scores.csv"), "csv") as file:
        write_scores(file, surprise)
    console.print(f"{printable(folder / 'scores.csv')}: {len(scores):,} scores")
    if not line.frames:
        console.print(f"{printable(folder / 'score.html')}: {len(shown):,} of them to look into")


@contextmanager
def writing(out: str | None) -> Iterator[None]:
    """Say in a line what cannot be written.

    Raises:
        UserError: a file or a folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"out={out}: {error.strerror}; give a folder that can be written") from None


def coloured(surprise: "Surprise", shown: np.ndarray, lines: int, width: int) -> Text:
    """The first symbols on so many lines, with a background by surprise, after a legend."""
    text = Text("surprise: ", no_wrap=False)
    for colour, low, high in zip(HEAT, (0.0, *LIMITS), (*LIMITS, None), strict=True):
        text.append(f" {low:g} to {high:g} " if high else f" above {low:g} nats ", background(colour))
    lead = escaped(surprise.lead(shown)).strip("\n")
    text.append(f"\n{lead}")
    used, column = 0, len(lead)
    for piece, nll in zip(surprise.pieces(shown), surprise.scores.nll[shown].tolist(), strict=True):
        for part in escaped(piece).splitlines(keepends=True):
            column += len(part)
            if part.endswith("\n") or column > width:
                used, column = used + 1, 0 if part.endswith("\n") else len(part)
            if used >= lines:
                return text
            style = background(HEAT[int(np.searchsorted(LIMITS, nll))])
            text.append(part.rstrip("\n"), style)
            if part.endswith("\n"):
                text.append("\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}", style)
                text.append("\n")
    return text


def background(colour: str) -> Style:
    return Style(bgcolor=colour, color="#ffffff") if colour else Style()


def write_scores(file: Any, surprise: "Surprise") -> None:
    """Write a row per symbol; texts are quoted, because they may hold line breaks of any kind."""
    file.write(",".join(surprise.columns) + "\n")
    writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    rows: Iterator[list[Any]] = surprise.rows()
    writer.writerows(rows)


def main(root: Path | None = None) -> None:
    """Run the command; `root` is the folder that contains `outputs/`, by default the current one."""
    launch("score", Score, score, root)
