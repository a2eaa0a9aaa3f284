"""Build the project's saved W&B workspace: python src/dashboard.py [entity=NAME] [logger.project=NAME]."""

import hydra
from omegaconf import DictConfig

from throughline.config import DashboardConfig, load
from throughline.plumbing.errors import one_line_errors
from throughline.plumbing.startup import large_imports


@hydra.main(version_base="1.3", config_path="../conf", config_name="dashboard")
@one_line_errors()
def main(cfg: DictConfig) -> None:
    config = load(cfg, DashboardConfig)
    with large_imports():
        from throughline.commands.dashboard import build

    build(config)


if __name__ == "__main__":
    with one_line_errors():
        main()
