"""Connects Hydra and the commands: reads YAML files that list only differences, and builds settings from them."""

import contextlib
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import hydra
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from throughline.commands.arguments import for_hydra, read_options, shown
from throughline.config import Config
from throughline.plumbing.errors import UserError, did_you_mean, one_line_errors
from throughline.plumbing.launchers import refuse_foreign_launcher
from throughline.regimes.stateful import Stateful
from throughline.settings import checked, defaults, explained, kinds, target_class, targets

T = TypeVar("T")

PACKAGE = Path(__file__).parents[1]
CONF = next(folder for folder in (PACKAGE / "conf", PACKAGE.parents[1] / "conf") if folder.is_dir())
"""The folder of the YAML files: inside an installed package, or at the top of a checkout."""


def run_name(*, _root_: DictConfig) -> str:
    """The name of a run in its folder's name; in a sweep, the values that the sweep changes are added."""
    hydra_cfg = _root_.hydra
    try:
        config = load(without_hydra(_root_), Config, own_folders_of(hydra_cfg))
    except (UserError, OmegaConfBaseException):  # the error is reported later, when the run begins
        return f"{hydra_cfg.runtime.choices.model}-{hydra_cfg.runtime.choices.regime}"
    if hydra_cfg.mode != RunMode.MULTIRUN:
        return config.name
    swept = {*map(str, hydra_cfg.sweeper.get("swept") or hydra_cfg.sweeper.params or {})}
    in_the_name = {"model", "model.hidden_size", "model.num_layers", "regime", "seed"}
    if isinstance(config.regime, Stateful):
        in_the_name.add("regime.streams")
    members = [o for o in _overrides(hydra_cfg.overrides.task) if o.key_or_group in swept - in_the_name]
    pairs = [f"{o.key_or_group.rpartition('.')[2]}={shown(o.value())}" for o in members]
    # Without characters that have a meaning for a shell, a file system, or Hydra, to whom `=` in a path is a mistake.
    values = ["".join(c if c.isalnum() or c in "._+-" else "_" for c in pair)[:40] for pair in pairs]
    return "-".join([f"{config.model.name}-{config.regime.label}", *values, f"s{config.seed}"])


def _overrides(arguments: Iterable[str]) -> list[Override]:
    """The arguments that Hydra reads as overrides."""
    parser, found = OverridesParser.create(), []
    for argument in arguments:
        with contextlib.suppress(HydraException):
            if "=" in argument:
                found.append(parser.parse_override(argument))
    return found


OmegaConf.register_new_resolver("project", lambda path: str(Path.cwd() / path), replace=True)
OmegaConf.register_new_resolver("run_name", run_name, replace=True)


class Differences(FileConfigSource):
    """Reads YAML files that name a settings class by `_target_`, and adds the defaults of the class for all missing keys.

    So each default is written in one place, and every key can be set on the command line.
    """

    def load_config(self, config_path: str) -> ConfigResult:
        try:
            result = super().load_config(config_path)
        except (YAMLError, UnicodeDecodeError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            mark = getattr(error, "problem_mark", None)
            line = "" if mark is None else f"line {mark.line + 1}: "
            fault = " ".join(str(getattr(error, "problem", None) or error).split())
            raise UserError(f"{Path(self.path, self._normalize_file_name(config_path))}: {line}{fault}") from None
        group, _, _ = config_path.rpartition("/")
        node = result.config
        if isinstance(node, DictConfig):
            if group == "":
                self._fill(node, _command_settings(node.get("_target_")))
            elif (base := _bases().get(group)) is not None and "defaults" not in node:  # else they come from its base
                for part in (node, *(value for _, value in node.items_ex(resolve=False) if isinstance(value, DictConfig))):
                    if "_target_" in part:
                        self._fill(part, self._class(group, base, part["_target_"]))
        return result

    def _class(self, group: str, base: type[Any], target: Any) -> type[Any] | None:
        try:
            return target_class(group, base, target, [Path(self.path).absolute()] if self.provider == "command-line" else [])
        except UserError:  # it is raised again when the settings are built
            return None

    @staticmethod
    def _fill(node: DictConfig, cls: type[Any] | None) -> None:
        if cls is not None:
            there = list(node)  # a value of ??? is there as well
            for key, value in defaults(cls).items():
                if key not in there:
                    node[key] = value


# Hydra has no public way to read the files of a folder differently. Noticed by `test_a_file_is_silent_about_defaults`.
Plugins.instance()
Differences.__name__ = FileConfigSource.__name__  # by which Hydra knows it again in the process of another launcher
SourcesRegistry.instance().types["file"] = Differences


def _bases() -> dict[str, type[Any]]:
    """The abstract class of each group whose files name one of its subclasses."""
    return {f.name: kind for f in fields(Config) for kind in kinds(f.type) if inspect.isabstract(kind)}


def _command_settings(target: Any) -> type[Any] | None:
    """The settings class that the file of a command names."""
    module, _, name = str(target).rpartition(".")
    if module != "throughline.config" and not module.startswith("throughline.commands."):
        return None
    with contextlib.suppress(ImportError):
        found = getattr(importlib.import_module(module), name, None)
        return found if inspect.isclass(found) and is_dataclass(found) else None
    return None


typed: list[str] = []
"""The arguments of the command as a person typed them; `sys.argv` has them as Hydra reads them."""


def launch(name: str, cls: type[T], run: Callable[[T], object], root: Path | None) -> None:
    """Run a command with the settings of its command line; a user's error is reported in one line.

    Args:
        name: the name of the command and of its file in `conf/`.
        cls: the class of its settings.
        run: called with the settings.
        root: the folder that contains `outputs/`; None is the current one.
    """
    composed(name, cls, one_line_errors()(lambda cfg: run(load(cfg, cls))), root)


def _options_of(
    loader: ConfigLoaderImpl, group_name: str, results_filter: ObjectType | None = ObjectType.CONFIG, *_: Any
) -> list[str]:
    """The choices of a group, as `ConfigLoaderImpl.get_group_options` returns them without a search path of the settings."""
    return loader.repository.get_group_options(group_name, results_filter)


def composed(name: str, cls: type[Any], run: Callable[[DictConfig], object], root: Path | None) -> None:
    """Let Hydra compose the files of `conf/` and the command line, and run."""
    root = (root or Path.cwd()).absolute()
    OmegaConf.register_new_resolver("project", lambda path: str(root / path), replace=True)
    with one_line_errors():
        refuse_foreign_launcher(training=name == "train")
        typed[:] = sys.argv[1:]
        options = read_options(typed)
        sys.argv[1:] = for_hydra(typed, cls)
        if not {"--help", "-h"}.isdisjoint(typed):
            if name != "train":  # Hydra's help would list its own settings, too
                print(help_of(name, cls))
                return
            # Hydra would compose the search path anew for each of the hundred groups that it lists: a quarter of a second.
            ConfigLoaderImpl.get_group_options = _options_of  # type: ignore[assignment,method-assign]
        try:
            hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)(run)()
        except MissingConfigException as error:  # Hydra does not list what a list of choices could hold
            error.options = error.options or _choices(str(error.missing_cfg_file).rpartition("/")[0])
            raise
        except ConfigCompositionException as error:
            wrong = re.match(r"Could not override '([^']+)'", str(error))
            if wrong is None:
                raise
            raise UserError(_no_such_key(wrong[1], cls)) from None
        except SystemExit as end:
            if options.cfg and end.code == 1:  # Hydra's answer to `--cfg job -p nothing`
                sys.exit(2)
            raise


def _choices(group: str) -> list[str]:
    """The names of our files of a group."""
    return sorted(file.stem for file in (CONF / group).glob("*.yaml")) if group else []


def _no_such_key(key: str, cls: type[Any]) -> str:
    """A line about a key that a command does not have, with the likeliest one that was meant."""
    known = _keys(cls)
    if key in known and "." not in key:
        return f"{key}: give one of the choices that `--help` lists"
    if key in known:
        return f"{key} is a setting of another choice of {key.partition('.')[0]}; `--cfg job` shows every key"
    if (whole := key.partition(".")[0]) in {f.name for f in fields(Config)} - {f.name for f in fields(cls)}:
        return f"{whole} is a setting of training; this command takes {', '.join(f.name for f in fields(cls))}"
    if key.startswith("hydra.launcher."):
        nodes = ConfigStore.instance().repo["hydra"]["launcher"].values()
        known = [f"hydra.launcher.{name}" for launcher in nodes for name in launcher.node]
    groups = [folder.name for folder in CONF.iterdir() if folder.is_dir() and folder.name != key]  # of another command
    return f"{key}: there is no such setting; {did_you_mean(key, [*known, *groups]) or '`--cfg job` shows every key'}"


def help_of(name: str, cls: type[Any]) -> str:
    """The settings of a command, one on a line."""
    lines = [f"{name}: key=value sets a value. docs/settings.md explains each setting.", ""]
    texts = explained(cls)
    for f in fields(cls):
        inner = [c for kind in kinds(f.type) if not inspect.isabstract(kind) for c in fields(kind)]
        keys = ", ".join(f"{f.name}.{part.name}" for part in inner) if inner else f"{f.name}=..."
        lines.append(f"  {keys}")
        if f.name in texts:
            lines.append(f"      {texts[f.name]}")
    return "\n".join(lines)


def _keys(cls: type[Any]) -> list[str]:
    """The names of all settings of a command, of every choice of every group, and of the groups."""
    names = []
    for f in fields(cls):
        classes = [c for kind in kinds(f.type) for c in (targets(kind).values() if inspect.isabstract(kind) else [kind])]
        names += [f.name, *(f"{f.name}.{inner.name}" for c in classes for inner in fields(c))]
    return names


def load(cfg: DictConfig, cls: type[T], folders: Sequence[Path] | None = None) -> T:
    """Check a composed Hydra config and build its settings; `folders` are those of a user's own modules, if they are known.

    Raises:
        UserError: one line for each key that is wrong: the key, its value, and what is allowed.
    """
    missing = sorted(OmegaConf.missing_keys(cfg))
    if missing:
        raise UserError("\n".join(f"{key} is required: give it as {key}=..." for key in missing))
    own = own_folders() if folders is None else folders
    values = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(values, dict)
    return checked(cls, {str(key): value for key, value in values.items() if key != "_target_"}, own)


def own_folders() -> list[Path]:
    """The folders that `-cd` names, which contain a user's own YAML files and modules."""
    return own_folders_of(HydraConfig.get()) if HydraConfig.initialized() else []


def own_folders_of(hydra_cfg: Any) -> list[Path]:
    """Those folders, while Hydra still composes."""
    return [Path(s.path).absolute() for s in hydra_cfg.runtime.config_sources if s.provider == "command-line"]


def without_hydra(root: DictConfig) -> DictConfig:
    """The settings of a command, from the composed configuration."""
    return OmegaConf.masked_copy(root, [str(key) for key in root if key != "hydra"])
