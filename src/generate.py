"""Generate from a checkpoint: python src/generate.py checkpoint=outputs/.../best.ckpt prompt="def " length=500."""

from pathlib import Path

from throughline.commands.start import run

if __name__ == "__main__":
    run("generate", Path(__file__).parents[1])
