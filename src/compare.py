"""Compare finished runs in a report: python src/compare.py runs=outputs/multirun/..."""

import hydra
from omegaconf import DictConfig

from throughline.commands.compare import Compare, compare
from throughline.commands.compose import load
from throughline.plumbing.errors import one_line_errors


@hydra.main(version_base="1.3", config_path="../conf", config_name="compare")
@one_line_errors()
def main(cfg: DictConfig) -> None:
    compare(load(cfg, Compare))


if __name__ == "__main__":
    with one_line_errors():
        main()
