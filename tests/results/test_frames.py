"""A report of runs on frames: their units, and their pictures."""

import base64
from pathlib import Path

from helpers import config, roll, run_as_from_hydra
from throughline.commands.compare import Compare, compare


def test_a_report_of_runs_on_frames_shows_their_pictures_and_no_bits(tmp_path: Path) -> None:
    for number, regime in enumerate(("stateful", "segments")):
        run_as_from_hydra(roll(), tmp_path / str(number), f"regime={regime}", "budget.tokens=1500")
    compare(config(f"runs={tmp_path}", "logger=none", name="compare", cls=Compare))
    page = (tmp_path / "comparison" / "report.html").read_text(encoding="utf-8")
    for number in range(2):
        picture = base64.b64encode((tmp_path / str(number) / "samples.png").read_bytes()).decode()
        assert f'src="data:image/png;base64,{picture}"' in page
    assert "nll after the first" in page
    assert "nats per frame" in page
    assert "nats per token" not in page
    header = (tmp_path / "comparison" / "runs.csv").read_text(encoding="utf-8").splitlines()[0].split(",")
    assert "val/nll_after_first" in header
    assert "val/bpc" not in header
    assert "samples.npy and samples.png" in (tmp_path / "comparison" / "report.md").read_text(encoding="utf-8")
    (tmp_path / "0" / "samples.png").write_bytes(b"no picture")
    compare(config(f"runs={tmp_path}", "logger=none", name="compare", cls=Compare))
    assert "damaged: samples.png is not as the run left it" in (tmp_path / "comparison" / "report.md").read_text(
        encoding="utf-8"
    )
