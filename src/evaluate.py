"""Measure a checkpoint by both figures: python src/evaluate.py checkpoint=outputs/.../last.ckpt data=stdlib."""

import hydra
from omegaconf import DictConfig

from throughline.config import EvaluateConfig, load
from throughline.plumbing.errors import one_line_errors
from throughline.plumbing.startup import large_imports


@hydra.main(version_base="1.3", config_path="../conf", config_name="evaluate")
@one_line_errors()
def main(cfg: DictConfig) -> None:
    config = load(cfg, EvaluateConfig)
    with large_imports():
        from throughline.evaluation.measure import report

    report(config)


if __name__ == "__main__":
    with one_line_errors():
        main()
