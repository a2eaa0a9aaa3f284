"""Write a checkpoint as safetensors, JSON and ONNX: python src/export.py checkpoint=outputs/.../last.ckpt."""

import hydra
from omegaconf import DictConfig

from throughline.config import ExportConfig, load
from throughline.errors import one_line_errors
from throughline.imports import large_imports


@hydra.main(version_base="1.3", config_path="../conf", config_name="export")
@one_line_errors()
def main(cfg: DictConfig) -> None:
    config = load(cfg, ExportConfig)
    with large_imports():
        from throughline.export import export

    export(config)


if __name__ == "__main__":
    with one_line_errors():
        main()
