"""Build the project's saved W&B workspace: python src/dashboard.py [entity=NAME] [logger.project=NAME]."""

import hydra
from omegaconf import DictConfig

from throughline.commands.compose import load
from throughline.commands.dashboard import Dashboard, dashboard
from throughline.plumbing.errors import one_line_errors


@hydra.main(version_base="1.3", config_path="../conf", config_name="dashboard")
@one_line_errors()
def main(cfg: DictConfig) -> None:
    dashboard(load(cfg, Dashboard))


if __name__ == "__main__":
    with one_line_errors():
        main()
