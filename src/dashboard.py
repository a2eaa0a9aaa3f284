"""Save a workspace for the project in W&B: python src/dashboard.py [entity=NAME] [logger.project=NAME]."""

from pathlib import Path

from throughline.commands.start import run

if __name__ == "__main__":
    run("dashboard", Path(__file__).parents[1])
