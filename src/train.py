"""Train a generator: python src/train.py model=lstm256 regime=stateful data=stdlib."""

from pathlib import Path

from throughline.commands.start import run

if __name__ == "__main__":
    run("train", Path(__file__).parents[1])
