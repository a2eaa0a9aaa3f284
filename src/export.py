"""Write a checkpoint as safetensors, JSON and ONNX: python src/export.py checkpoint=outputs/.../last.ckpt."""

import hydra
from omegaconf import DictConfig

from throughline.config import ExportConfig, load
from throughline.plumbing.errors import one_line_errors
from throughline.plumbing.startup import large_imports


@hydra.main(version_base="1.3", config_path="../conf", config_name="export")
@one_line_errors()
def main(cfg: DictConfig) -> None:
    config = load(cfg, ExportConfig)
    with large_imports():
        from throughline.commands.export import export

    export(config)


if __name__ == "__main__":
    with one_line_errors():
        main()
