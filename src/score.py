"""Score every step of a text: python src/score.py checkpoint=outputs/.../best.ckpt text=FILE out=FOLDER."""

from pathlib import Path

from throughline.commands.start import run

if __name__ == "__main__":
    run("score", Path(__file__).parents[1])
