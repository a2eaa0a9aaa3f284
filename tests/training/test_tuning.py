"""A setting that is found in a minute: here in seconds, on tiny networks."""

from pathlib import Path

import pytest
from rich.console import Console

from helpers import SMALL, config, fox
from throughline.memory import of_training
from throughline.plumbing.errors import UserError
from throughline.training import tuning


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "SECONDS", 2.0)


def tuned(what: str, folder: Path, *chosen: str) -> tuple[str, str]:
    """The setting that is found, and what is said."""
    settings = config(*SMALL, f"tune={what}", "regime.streams=4", "regime.bptt=16", "trainer.threads=1", *chosen)
    with (folder / "said.txt").open("w") as said:
        found = tuning.tune(settings, fox(), Console(file=said, width=120))
    return found, (folder / "said.txt").read_text()


def test_a_learning_rate_is_found_where_the_loss_falls(quick: None, tmp_path: Path) -> None:
    found, said = tuned("lr", tmp_path)
    key, _, value = found.partition("=")
    assert key == "optimizer.lr"
    assert 1e-3 < float(value) < 1.0
    rows = [line.split() for line in said.splitlines() if line.endswith("#")]
    rates, losses = [float(row[0]) for row in rows], [float(row[1]) for row in rows]
    assert rates == sorted(rates)
    assert len(rates) > 8
    assert min(losses) < 0.8 * losses[0]
    assert float(value) == pytest.approx(float(said.partition("lowest at lr=")[2].split(",")[0].split(";")[0]) / 3, rel=0.1)


def test_the_rate_does_not_depend_on_the_clock_alone(quick: None, tmp_path: Path) -> None:
    """A wild network diverges early; nothing is found that would not train."""
    found, _ = tuned("lr", tmp_path, "trainer.gradient_clip_val=null")
    assert 1e-4 < float(found.partition("=")[2]) < 1.0


def test_streams_are_found_by_their_speed(quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "STREAMS", (1, 4, 8))
    monkeypatch.setattr(tuning, "BPTT", (8, 16))
    found, said = tuned("streams", tmp_path)
    assert found in {f"regime.streams={streams} regime.bptt=16" for streams in (1, 4, 8)}
    table = [line.split() for line in said.splitlines() if line.split()[0].isdigit()]
    assert [row[0] for row in table] == ["1", "4", "8"]
    speeds = {int(row[0]): float(row[2].replace(",", "")) for row in table}
    fewest = min(streams for streams, speed in speeds.items() if speed >= 0.8 * max(speeds.values()))
    assert found == f"regime.streams={fewest} regime.bptt=16"


@pytest.mark.parametrize(
    ("what", "chosen", "line"),
    [
        ("streams", "regime=segments", "tune=streams: regime segments has no streams; give regime=stateful"),
        ("lr", "regime=onestep", "tune=lr: regime onestep updates after every token; give another regime"),
    ],
)
def test_what_has_no_such_setting_is_refused(what: str, chosen: str, line: str) -> None:
    settings = config(*SMALL, f"tune={what}", chosen, "trainer.threads=1")
    with pytest.raises(UserError, match=f"^{line}$"):
        tuning.tune(settings, fox(), Console(quiet=True))


def test_memory_is_looked_at_before_and_for_every_shape(
    quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "STREAMS", (1, 8))
    monkeypatch.setattr(tuning, "BPTT", (8,))
    small, large = (of_training(config(*SMALL, f"regime.streams={n}", "regime.bptt=8"), fox()) for n in (1, 8))
    assert small < large
    monkeypatch.setattr(tuning, "of_machine", lambda: (small + large) / 2)
    found, _ = tuned("streams", tmp_path)
    assert found == "regime.streams=1 regime.bptt=8"
    monkeypatch.setattr(tuning, "of_machine", lambda: small / 2)
    with pytest.raises(UserError, match=r"^tune=streams: no choice fits into the memory of this machine"):
        tuned("streams", tmp_path)
    with pytest.raises(UserError, match=r"^model.hidden_size=10000000: at least .* of memory are needed"):
        tuned("lr", tmp_path, "model.hidden_size=10000000", "trainer.threads=auto")


def test_a_loss_that_is_never_finite_is_one_line(quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning._Trial, "step", lambda trial, batch, lr: float("nan"))
    with pytest.raises(UserError, match=r"^tune=lr: the loss is not finite at lr=1e-05"):
        tuned("lr", tmp_path)


@pytest.mark.parametrize("chosen", [("regime=overlapping", "regime.advance=12"), ("regime.bptt_start=4",)])
def test_streams_are_found_of_every_regime_that_has_them(
    chosen: tuple[str, ...], quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "STREAMS", (1, 4))
    monkeypatch.setattr(tuning, "BPTT", (8, 16))
    found, said = tuned("streams", tmp_path, *chosen)
    assert "regime.bptt=16" in found
    assert ("bptt 8" in said) == (len(chosen) == 1)
