"""Write a checkpoint as safetensors, JSON and ONNX: python src/export.py checkpoint=outputs/.../best.ckpt."""

from pathlib import Path

from throughline.commands.start import run

if __name__ == "__main__":
    run("export", Path(__file__).parents[1])
