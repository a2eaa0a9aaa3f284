"""Train an LSTM generator: python src/train.py model=lstm256 regime=stateful data=stdlib."""

from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from throughline.config import Config, load
from throughline.errors import one_line_errors


@hydra.main(version_base="1.3", config_path="../conf", config_name="train")
@one_line_errors()
def main(cfg: DictConfig) -> None:
    config = load(cfg, Config)
    corpus = config.data.read()
    from throughline.training import train  # takes seconds, so only once the config and the data are known to be sound

    train(config, corpus, Path(HydraConfig.get().runtime.output_dir))


if __name__ == "__main__":
    with one_line_errors():
        main()
