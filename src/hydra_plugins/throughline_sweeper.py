"""What Hydra runs for `-m`. It takes sweepers only from packages of this name; `throughline.sweeps` does the work."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf


class Sweep(BasicSweeper):
    """Trains all combinations of values, or the trials of a search, with any launcher, and reports what became of them."""

    def __init__(self, max_batch_size: int | None, params: dict[str, str] | None = None, swept: Sequence[str] = ()) -> None:
        super().__init__(max_batch_size, params)

    def sweep(self, arguments: list[str]) -> Any:
        from throughline.commands.arguments import SWEEPS
        from throughline.commands.compose import load, own_folders_of, typed, without_hydra
        from throughline.commands.train import command, compare
        from throughline.config import Config, Optuna
        from throughline.plumbing.errors import UserError
        from throughline.runs.folders import held, refuse_other_sweep
        from throughline.sweeps import grid, search, space

        assert self.config is not None
        assert self.launcher is not None
        assert self.hydra_context is not None
        whole, launcher, loader = self.config, self.launcher, self.hydra_context.config_loader
        folder = Path(whole.hydra.sweep.dir)
        parser = OverridesParser.create(config_loader=loader)
        overrides = parser.parse_overrides([*self._parse_config(), *arguments])
        swept = {override.key_or_group: override for override in overrides if override.is_sweep_override()}

        def named(keys: Sequence[str]) -> str:
            """For the name of a member's folder, which may be given on another machine."""
            return f"++hydra.sweeper.swept=[{','.join(keys)}]"

        def checked(member: Sequence[str]) -> Config:
            cfg = loader.load_sweep_config(whole, list(member))
            return load(without_hydra(cfg), Config, own_folders_of(cfg.hydra))

        def launch(members: Sequence[Sequence[str]], first: int) -> Sequence[Any]:
            return launcher.launch(members, initial_job_idx=first)

        fixed = [override.input_line or "" for override in overrides if not override.is_sweep_override()]
        settings = checked([*fixed, named(())]).sweep
        together = isinstance(settings, Optuna)
        with nullcontext() if together else held(folder, "runs a sweep"):
            if isinstance(settings, Optuna):
                cfg = loader.load_sweep_config(whole, [*fixed, named(())])
                usual = {**cfg.hydra.runtime.choices}

                def holds(key: str, value: str) -> bool:
                    return str(usual.get(key, OmegaConf.select(cfg, key))) == value

                draws = space.draws(settings.space or {}, overrides, parser)
                self._save(folder)
                keys = named([draw.key for draw in draws])
                drawn = {draw.key for draw in draws}
                kept = [a for a in typed if a not in SWEEPS and not a.startswith(search.OF_THE_SEARCH)]
                kept = [a for a in kept if a.partition("=")[0].lstrip("+") not in drawn]
                own = any(a.partition("=")[0] in ("-cd", "--config-dir") for a in typed)
                commands = search.Commands(command("train"), kept, own, compare(folder))
                is_group = lambda key: bool(loader.get_group_options(key))  # noqa: E731
                return search.train(settings, draws, [*fixed, keys], folder, launch, checked, is_group, holds, commands)
            for override in swept.values():
                if not override.is_discrete_sweep():
                    line = f"{override.input_line}: a search draws from it; give sweep=optuna, or several values"
                    raise UserError(line)
            refuse_other_sweep(folder, list(whole.hydra.overrides.task))
            batches = self.split_arguments(overrides, self.max_batch_size)
            batches = [[[*member, named(list(swept))] for member in batch] for batch in batches]
            for batch in batches:
                for member in batch:  # all members are checked before the first is trained
                    checked(member)
            self._save(folder)
            return grid.train(batches, folder, launch, compare(folder))

    def _save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, folder / "multirun.yaml")
