"""Write a checkpoint as safetensors, JSON and ONNX: python src/export.py checkpoint=outputs/.../last.ckpt."""

import hydra
from omegaconf import DictConfig

from throughline.commands.compose import load
from throughline.commands.export import Export, export
from throughline.plumbing.errors import one_line_errors


@hydra.main(version_base="1.3", config_path="../conf", config_name="export")
@one_line_errors()
def main(cfg: DictConfig) -> None:
    export(load(cfg, Export))


if __name__ == "__main__":
    with one_line_errors():
        main()
