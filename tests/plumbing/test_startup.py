"""During large imports there is no garbage collection, and the new objects are frozen once."""

import gc

import pytest

from throughline.plumbing.startup import large_imports


def test_garbage_is_not_looked_for_within(monkeypatch: pytest.MonkeyPatch) -> None:
    counts, frozen = iter([0, 5]), []
    monkeypatch.setattr(gc, "get_freeze_count", lambda: next(counts))
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append(gc.isenabled()))
    assert gc.isenabled()
    for _ in range(2):
        with large_imports():
            assert not gc.isenabled()
        assert gc.isenabled()
    assert frozen == [True]


def test_a_failed_import_leaves_it_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gc, "freeze", lambda: None)

    def failing() -> None:
        with large_imports():
            raise ImportError

    with pytest.raises(ImportError):
        failing()
    assert gc.isenabled()
