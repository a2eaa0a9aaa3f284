"""What lies between Hydra and the commands: paths that its YAML asks for, and a composed config read into settings."""

from pathlib import Path
from typing import TypeVar

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from throughline.plumbing.errors import UserError
from throughline.runs.folders import run_folder, sweep_folder
from throughline.settings import checked

T = TypeVar("T")

# Where the checkout lies, so that outputs do too, from whatever folder a script is called.
OmegaConf.register_new_resolver("project", lambda path: str(Path(__file__).parents[3] / path), replace=True)
OmegaConf.register_new_resolver("run_folder", run_folder, replace=True)
# Cached: Hydra resolves this once per sweep and once per member, and a member's overrides no longer identify the sweep.
OmegaConf.register_new_resolver("sweep_folder", sweep_folder, replace=True, use_cache=True)


def load(cfg: DictConfig, cls: type[T]) -> T:
    """Check a composed Hydra config and build its settings.

    Raises:
        UserError: one line for each key that is wrong: the key, its value, and what is allowed.
    """
    missing = sorted(OmegaConf.missing_keys(cfg))
    if missing:
        raise UserError("\n".join(f"{key} is required: give it as {key}=..." for key in missing))
    values = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(values, dict)
    return checked(cls, {str(key): value for key, value in values.items()}, own_folders())


def own_folders() -> list[Path]:
    """The folders that `-cd` names, where a user's own YAML files and modules lie."""
    if not HydraConfig.initialized():
        return []
    sources = HydraConfig.get().runtime.config_sources
    return [Path(source.path).absolute() for source in sources if source.provider == "command-line"]
