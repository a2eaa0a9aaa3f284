"""Compare finished runs in a report: python src/compare.py runs=outputs/multirun/..."""

import hydra
from omegaconf import DictConfig

from throughline.config import CompareConfig, load
from throughline.plumbing.errors import one_line_errors
from throughline.plumbing.startup import large_imports


@hydra.main(version_base="1.3", config_path="../conf", config_name="compare")
@one_line_errors()
def main(cfg: DictConfig) -> None:
    config = load(cfg, CompareConfig)
    with large_imports():
        from throughline.results.page import compare

    compare(config)


if __name__ == "__main__":
    with one_line_errors():
        main()
