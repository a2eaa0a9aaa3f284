"""Measure a checkpoint: python src/evaluate.py checkpoint=outputs/.../best.ckpt split=val."""

from pathlib import Path

from throughline.commands.start import run

if __name__ == "__main__":
    run("evaluate", Path(__file__).parents[1])
