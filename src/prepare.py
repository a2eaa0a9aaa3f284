"""Show what would be trained on: python src/prepare.py data=text data.path=FILE."""

from pathlib import Path

from throughline.commands.start import run

if __name__ == "__main__":
    run("prepare", Path(__file__).parents[1])
