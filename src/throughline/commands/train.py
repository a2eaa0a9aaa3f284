"""`src/train.py`: its settings are those of a run, in `throughline.config`."""

from contextlib import nullcontext
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from throughline.commands.compose import load
from throughline.config import Config
from throughline.plumbing.errors import noted_failure, one_line_errors
from throughline.plumbing.startup import large_imports


def train(cfg: DictConfig) -> None:
    """Train as composed, in the folder that Hydra has made."""
    sweep = HydraConfig.get().mode == RunMode.MULTIRUN
    folder = Path(HydraConfig.get().runtime.output_dir)
    # What a member of a sweep raises Hydra keeps, runs the other members, and raises it in the end.
    with nullcontext() if sweep else one_line_errors(), noted_failure(folder, announce=sweep):
        config = load(cfg, Config)
        corpus = config.data.read(config.codec)
        with large_imports():  # takes seconds, so only once config and data are known to be sound
            from throughline.training import run

        run.train(config, corpus, folder)
