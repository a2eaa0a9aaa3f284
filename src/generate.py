"""Generate from a checkpoint: python src/generate.py checkpoint=outputs/.../last.ckpt prompt="def " length=500."""

import sys

import hydra
from omegaconf import DictConfig

from throughline.commands.compose import load
from throughline.commands.generate import Generate, generate
from throughline.plumbing.errors import one_line_errors, verbatim


@hydra.main(version_base="1.3", config_path="../conf", config_name="generate")
@one_line_errors()
def main(cfg: DictConfig) -> None:
    generate(load(cfg, Generate))


if __name__ == "__main__":
    sys.argv = verbatim(sys.argv, "prompt")
    with one_line_errors():
        main()
