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
        "arr-real": np.array([[0.5, 3.25], [-1.0, 2.0]]),
        "arr-mostly": np.vstack([eye] * 10 + [np.ones((1, 3))]),
        "arr-constant": np.stack([np.linspace(0.5, 9, 20), np.full(20, 5.0)], axis=1),
        "arr-coarse": 1.6e9 + 0.5 * np.arange(60),
        "arr-velocities": np.where(np.arange(128) == 60, 90, 0) * np.ones((200, 1), int),
        "arr-transposed": np.where(np.arange(128) == 60, 1, 0)[:, None] * np.ones(200, int),
        "arr-silent": np.zeros((20, 5)),
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
    roll = arrays["arr-multi"]
    np.savez(folder / "arr-nan.npz", x=np.vstack([np.ones((2, 3)), nan]), lengths=np.array([2, 2]))
    np.savez(folder / "arr-splits.npz", train=roll, valid=roll)
    np.savez(folder / "arr-unlike.npz", train=roll, valid=arrays["arr-real"])
    np.savez(folder / "arr-tunes.npz", tune0=roll, tune1=arrays["arr-real"])
    (folder / "arr-matlab.mat").write_bytes(b"MATLAB 5.0 MAT-file" + bytes(200))
    np.savez(folder / "arr-two.npz", x=np.arange(4), y=np.arange(4))
    np.savez(folder / "arr-lengths.npz", x=np.array([[3, 1, 1], [2, 2, 1]]), lengths=np.array([3, 4]))
    np.savez(folder / "arr-line.npz", x=np.arange(4), lengths=np.array([5]))
