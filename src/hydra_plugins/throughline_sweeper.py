"""What Hydra runs for `-m`. It takes sweepers only from packages of this name; `throughline.sweeps` does the work."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf


class Sweep(BasicSweeper):
    """Trains all combinations of values, with any launcher, and reports what became of them."""

    def __init__(self, max_batch_size: int | None, params: dict[str, str] | None = None, swept: Sequence[str] = ()) -> None:
        super().__init__(max_batch_size, params)

    def sweep(self, arguments: list[str]) -> list[float]:
        from throughline.commands.compose import load, own_folders_of, without_hydra
        from throughline.commands.train import compare
        from throughline.config import Config
        from throughline.sweeps import grid

        assert self.config is not None
        assert self.launcher is not None
        assert self.hydra_context is not None
        loader, launcher = self.hydra_context.config_loader, self.launcher
        overrides = OverridesParser.create(config_loader=loader).parse_overrides([*self._parse_config(), *arguments])
        swept = [override.key_or_group for override in overrides if override.is_sweep_override()]
        named = f"++hydra.sweeper.swept=[{','.join(swept)}]"  # for the folder of a member, which another machine may name
        batches = [[[*member, named] for member in batch] for batch in self.split_arguments(overrides, self.max_batch_size)]
        folder = Path(self.config.hydra.sweep.dir)
        for batch in batches:
            for member in batch:  # all members are checked before the first is trained
                cfg = loader.load_sweep_config(self.config, list(member))
                load(without_hydra(cfg), Config, own_folders_of(cfg.hydra))
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, folder / "multirun.yaml")

        def launch(members: Sequence[Sequence[str]], first: int) -> Sequence[Any]:
            return launcher.launch(members, initial_job_idx=first)

        return grid.train(batches, folder, launch, compare(folder))
