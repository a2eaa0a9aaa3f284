"""Train an LSTM generator: python src/train.py model=lstm256 regime=stateful data=stdlib."""

from contextlib import nullcontext
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from throughline.config import Config, load
from throughline.plumbing.errors import noted_failure, one_line_errors
from throughline.plumbing.startup import large_imports


@hydra.main(version_base="1.3", config_path="../conf", config_name="train")
def main(cfg: DictConfig) -> None:
    sweep = HydraConfig.get().mode == RunMode.MULTIRUN
    output_dir = Path(HydraConfig.get().runtime.output_dir)
    # What a member of a sweep raises Hydra keeps, runs the other members, and raises it in the end.
    with nullcontext() if sweep else one_line_errors(), noted_failure(output_dir, announce=sweep):
        config = load(cfg, Config)
        corpus = config.data.read()
        with large_imports():  # takes seconds, so only once config and data are known to be sound
            from throughline.training.run import train

        train(config, corpus, output_dir)


if __name__ == "__main__":
    with one_line_errors():
        main()
