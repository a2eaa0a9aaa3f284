"""Write a checkpoint as safetensors, JSON and ONNX: python src/export.py checkpoint=outputs/.../best.ckpt."""

from pathlib import Path

from throughline.commands.export import main

if __name__ == "__main__":
    main(Path(__file__).parents[1])
