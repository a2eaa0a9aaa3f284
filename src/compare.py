"""Compare finished runs in a report: python src/compare.py runs=outputs/multirun/..."""

from pathlib import Path

from throughline.commands.start import run

if __name__ == "__main__":
    run("compare", Path(__file__).parents[1])
