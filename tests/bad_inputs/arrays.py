"""The wrong arrays that docs/bad-input.md names."""

import io
import pickle
from pathlib import Path

import numpy as np


def prepare(folder: Path) -> None:
    """Write them."""
    eye = np.eye(3)
    nan = np.ones((2, 3))
    nan[1, 2] = np.nan
    arrays = {
        "arr-multi": np.array([[1, 1, 0], [0, 1, 0]]),
        "arr-soft": 0.9995 * eye + 0.00025 * (1 - eye),
        "arr-real": np.array([[0.5, 3.25], [1.0, 2.0]]),
        "arr-nan": nan,
        "arr-deep": np.zeros((2, 2, 2, 2)),
        "arr-cube": np.arange(8).reshape(2, 2, 2),
        "arr-complex": np.array([1j]),
        "arr-empty": np.zeros(0),
        "arr-rows": np.array([[3, 1], [2, 2]]),
        "arr-row": np.array([3, 1, 2]),
        "arr-blank": np.array(["a", " ", "b"]),
        "arr-hole": np.array([["a", ""], ["", "b"]]),
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    np.save(folder / "arr-ragged.npy", np.array([[1], [1, 2]], object), allow_pickle=True)
    (folder / "arr-pickle.npy").write_bytes(pickle.dumps([1, 2]))
    (folder / "arr-zip.npz").write_bytes(b"PK\3\4 and more")
    file = io.BytesIO()
    np.save(file, np.arange(100))
    (folder / "arr-torn.npy").write_bytes(file.getvalue()[:-9])
    np.savez(folder / "arr-two.npz", x=np.arange(4), y=np.arange(4))
    np.savez(folder / "arr-lengths.npz", x=np.array([[3, 1, 1], [2, 2, 1]]), lengths=np.array([3, 4]))
    np.savez(folder / "arr-line.npz", x=np.arange(4), lengths=np.array([4]))
