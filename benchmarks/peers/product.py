"""The whole of throughline, as in `python src/train.py`, in slices that can be measured in turns with a peer.

    python -m benchmarks.peers.product regime.streams=32 trainer.precision=bf16-mixed

A slice ends where the loop asks the regime's plan for its next batch. So it contains everything that the product does around
a step: Lightning, the callbacks, logging, checkpoints. Validation is postponed to the end of the run, so no slice contains
it. With `--epochs`, a slice is an epoch and everything after it.
"""

import dataclasses
import tempfile
from pathlib import Path

from hydra import compose, initialize_config_dir
from rich.console import Console

from benchmarks.peers.pace import Pace, parser
from benchmarks.peers.shakespeare import PROJECT, path
from throughline.commands.compose import load
from throughline.config import Config
from throughline.data.line import Line
from throughline.plumbing.startup import large_imports
from throughline.regimes import Cut, Plan, Played, Regime


@dataclasses.dataclass(frozen=True)
class Paced(Regime):
    """The same cuts as `inner`, with the clock between them."""

    inner: Regime

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def update_every_token(self) -> bool:  # type: ignore[override]
        return self.inner.update_every_token

    @property
    def shape(self) -> tuple[int, int]:
        return self.inner.shape

    def plan(self, line: Line, seed: int, epoch: int) -> Plan:
        return PacedPlan(self.inner.plan(line, seed, epoch))


class PacedPlan(Plan):
    pace: Pace
    whole_epochs: bool
    unread = 0
    """Tokens of the batches that were given to the training step, but not yet reported to the clock."""

    def __init__(self, inner: Plan) -> None:
        self.inner = inner

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, k: int) -> Cut | Played:
        if PacedPlan.unread == 0:
            self.pace.begin()
        elif k == 0 or not self.whole_epochs:
            self.pace.step(PacedPlan.unread)
            PacedPlan.unread = 0
        cut = self.inner[k]
        PacedPlan.unread += int(cut.scored.sum())
        return cut


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--epochs", action="store_true", help="a slice is an epoch, validation and checkpoints included")
    options.add_argument("--text", type=Path, default=path())
    options.add_argument("overrides", nargs="*", help="as for src/train.py")
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        until_the_end = [] if arguments.epochs else [f"trainer.val_check_interval={10**9}"]
        fixed = ["data=shakespeare", f"data.path={arguments.text}", "logger=none", f"output_root={folder}"]
        endless = ["schedule=constant", f"trainer.max_epochs={10**9}"]
        with initialize_config_dir(str(PROJECT / "conf"), version_base="1.3"):
            config = load(compose("train", [*fixed, *endless, *until_the_end, *arguments.overrides]), Config)
        corpus = config.data.read(config.codec)
        with large_imports():  # as in `src/train.py`
            from throughline.model.generator import Generator
            from throughline.training.machine import precision
            from throughline.training.run import train

        suited = config.suited(corpus.codec)
        assert suited.head is not None
        parameters = sum(p.numel() for p in Generator(config.model, corpus.codec.size, suited.head).parameters())
        used = precision(config.trainer.precision, config.trainer.accelerator)
        PacedPlan.pace = Pace(arguments, peer="throughline", precision=used, parameters=parameters)
        PacedPlan.whole_epochs = arguments.epochs
        paced = dataclasses.replace(config, regime=Paced(config.regime))
        train(paced, corpus, Path(folder), console=Console(stderr=True))


if __name__ == "__main__":
    main()
