"""What Hydra runs for `-m`. It takes sweepers only from packages of this name; `throughline.sweeps` does the work."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

if TYPE_CHECKING:
    from throughline.config import Config, Optuna


class Sweep(BasicSweeper):
    """Trains all combinations of values, or the trials of a search, with any launcher, and reports what became of them."""

    def __init__(self, max_batch_size: int | None, params: dict[str, str] | None = None, swept: Sequence[str] = ()) -> None:
        super().__init__(max_batch_size, params)

    def sweep(self, arguments: list[str]) -> Any:
        from throughline.config import Optuna
        from throughline.runs.folders import held

        overrides = self._parser().parse_overrides([*self._parse_config(), *arguments])
        fixed = [override.input_line or "" for override in overrides if not override.is_sweep_override()]
        cfg, config = self._composed([*fixed, _named(())])
        if isinstance(config.sweep, Optuna):
            return self._search(config.sweep, overrides, fixed, cfg)
        with held(self._folder, "runs a sweep"):
            return self._grid(overrides)

    def _grid(self, overrides: list[Override]) -> list[float]:
        from throughline.commands.train import compare
        from throughline.plumbing.errors import UserError
        from throughline.runs.folders import refuse_other_sweep
        from throughline.sweeps import grid

        assert self.config is not None
        swept = {override.key_or_group: override for override in overrides if override.is_sweep_override()}
        for override in swept.values():
            if not override.is_discrete_sweep():
                line = f"{override.input_line}: a search draws from it; give sweep=optuna, or several values"
                raise UserError(line)
        refuse_other_sweep(self._folder, list(self.config.hydra.overrides.task))
        batches = self.split_arguments(overrides, self.max_batch_size)
        batches = [[[*member, _named(list(swept))] for member in batch] for batch in batches]
        for batch in batches:
            for member in batch:  # all members are checked before the first is trained
                self._composed(member)
        self._save()
        return grid.train(batches, self._folder, self._launch, compare(self._folder))

    def _search(self, settings: "Optuna", overrides: list[Override], fixed: list[str], cfg: Any) -> float:
        from throughline.commands.arguments import SWEEPS
        from throughline.commands.compose import typed
        from throughline.commands.train import command, compare
        from throughline.plumbing.errors import UserError
        from throughline.sweeps import search, space

        assert self.hydra_context is not None
        loader, usual = self.hydra_context.config_loader, {**cfg.hydra.runtime.choices}

        def holds(key: str, value: str) -> bool:
            return str(usual.get(key, OmegaConf.select(cfg, key))) == value

        def is_group(key: str) -> bool:
            return bool(loader.get_group_options(key))

        for override in overrides:
            if override.key_or_group == "sweep.space" and override.value() == {}:
                raise UserError(
                    "sweep.space={}: adds nothing to what is searched; '~sweep.space' takes all of it away, and a single "
                    "value takes a setting out"
                )
        draws = space.draws(settings.space or {}, overrides, self._parser())
        self._save()
        drawn = [draw.key for draw in draws]
        kept = [a for a in typed if a not in SWEEPS and not a.startswith(search.OF_THE_SEARCH)]
        kept = [a for a in kept if a.partition("=")[0].lstrip("+") not in drawn]
        own = any(a.partition("=")[0] in ("-cd", "--config-dir") for a in typed)
        commands = search.Commands(command("train"), kept, own, compare(self._folder))
        trials = [*fixed, _named(drawn)]
        return search.train(settings, draws, trials, self._folder, self._launch, self._composed, is_group, holds, commands)

    @property
    def _folder(self) -> Path:
        assert self.config is not None
        return Path(self.config.hydra.sweep.dir)

    def _parser(self) -> OverridesParser:
        assert self.hydra_context is not None
        return OverridesParser.create(config_loader=self.hydra_context.config_loader)

    def _composed(self, member: Sequence[str]) -> "tuple[Any, Config]":
        """What Hydra composes for a member, and its settings.

        Raises:
            UserError: no run can have them.
        """
        from throughline.commands.compose import load, own_folders_of, without_hydra
        from throughline.config import Config

        assert self.config is not None
        assert self.hydra_context is not None
        cfg = self.hydra_context.config_loader.load_sweep_config(self.config, list(member))
        return cfg, load(without_hydra(cfg), Config, own_folders_of(cfg.hydra))

    def _launch(self, members: Sequence[Sequence[str]], first: int) -> Sequence[Any]:
        assert self.launcher is not None
        return self.launcher.launch(members, initial_job_idx=first)

    def _save(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, self._folder / "multirun.yaml")


def _named(keys: Sequence[str]) -> str:
    """An override with the keys that differ, for the name of a member's folder: it may be given on another machine."""
    return f"++hydra.sweeper.swept=[{','.join(keys)}]"
