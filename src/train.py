"""Train a generator: python src/train.py model=lstm256 regime=stateful data=stdlib."""

from pathlib import Path

from throughline.commands.train import main

if __name__ == "__main__":
    main(Path(__file__).parents[1])
