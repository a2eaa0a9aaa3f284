"""Generate from a checkpoint: python src/generate.py checkpoint=outputs/.../best.ckpt prompt="def " length=500."""

from pathlib import Path

from throughline.commands.generate import main

if __name__ == "__main__":
    main(Path(__file__).parents[1])
