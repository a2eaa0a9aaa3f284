"""Look at data before training: python src/prepare.py data=lines data.path=names.txt."""

from pathlib import Path

from throughline.commands.start import run

if __name__ == "__main__":
    run("prepare", Path(__file__).parents[1])
