"""Compare finished runs in a report: python src/compare.py runs=outputs/multirun/..."""

from pathlib import Path

from throughline.commands.compare import main

if __name__ == "__main__":
    main(Path(__file__).parents[1])
