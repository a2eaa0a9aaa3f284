"""Measure a checkpoint: python src/evaluate.py checkpoint=outputs/.../best.ckpt split=val."""

from pathlib import Path

from throughline.commands.evaluate import main

if __name__ == "__main__":
    main(Path(__file__).parents[1])
