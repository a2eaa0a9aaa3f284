"""Train a generator: python src/train.py model=lstm256 regime=stateful data=stdlib."""

import hydra
from omegaconf import DictConfig

from throughline.commands.train import train
from throughline.plumbing.errors import one_line_errors


@hydra.main(version_base="1.3", config_path="../conf", config_name="train")
def main(cfg: DictConfig) -> None:
    train(cfg)


if __name__ == "__main__":
    with one_line_errors():
        main()
