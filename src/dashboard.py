"""Save a workspace for the project in W&B: python src/dashboard.py [entity=NAME] [logger.project=NAME]."""

from pathlib import Path

from throughline.commands.dashboard import main

if __name__ == "__main__":
    main(Path(__file__).parents[1])
