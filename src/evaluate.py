"""Measure a checkpoint: python src/evaluate.py checkpoint=outputs/.../last.ckpt data=stdlib."""

import hydra
from omegaconf import DictConfig

from throughline.commands.compose import load
from throughline.commands.evaluate import Evaluate, evaluate
from throughline.plumbing.errors import one_line_errors


@hydra.main(version_base="1.3", config_path="../conf", config_name="evaluate")
@one_line_errors()
def main(cfg: DictConfig) -> None:
    evaluate(load(cfg, Evaluate))


if __name__ == "__main__":
    with one_line_errors():
        main()
