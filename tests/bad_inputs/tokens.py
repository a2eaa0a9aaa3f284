"""The wrong files of ids that docs/bad-input.md names."""

import pickle
from pathlib import Path

import numpy as np


def prepare(folder: Path) -> None:
    """Write them."""
    ids = np.resize(np.arange(65), 2000)
    ids.astype("<u2").tofile(folder / "ids.bin")
    ids.astype("<u4").tofile(folder / "ids-wide.bin")
    (folder / "ids-odd.bin").write_bytes(ids.astype("<u2").tobytes()[:-1])
    (folder / "ids-empty.bin").touch()
    np.array([3, 50300], "<u2").tofile(folder / "ids-beyond.bin")
    np.array([3], "<u2").tofile(folder / "ids-one.bin")
    header = np.array([20240520, 1, 999] + [0] * 253, "<i4").tobytes()
    (folder / "ids-torn.bin").write_bytes(header + bytes(100))
    (folder / "ids-header.bin").write_bytes(header + bytes(1998))
    (folder / "ids-meta.pkl").write_bytes(pickle.dumps({"vocab_size": 65}))
    (folder / "ids-folder").mkdir()
