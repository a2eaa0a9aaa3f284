"""`src/prepare.py`: what was read, before anybody trains."""

import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from helpers import PROJECT
from throughline.commands.prepare import Prepare, histogram, prepare, report
from throughline.config import Config
from throughline.data.codecs.characters import Characters
from throughline.data.codecs.symbols import Symbols
from throughline.data.corpus import Corpus
from throughline.data.sources.text import Text


def test_names_written_out() -> None:
    corpus = Corpus.of(
        Characters(),
        ["ana", "bo", "ana b"],
        ["oz", "b"],
        {"source": "names", "bytes": 9, "read": "3 lines"},
        ended=True,
        joined=False,
    )
    assert list(report(corpus, examples=10)) == [
        "names: 9 bytes",
        "read as: 3 lines",
        "",
        "train: 3 sequences, 13 targets",
        "val:   2 sequences, 5 targets, 1 of them unknown (20.00%)",
        "state: each from zeros",
        "",
        "lengths of the training sequences, with their ends:",
        f"                  3  {'█' * 40} 1",
        f"                  4  {'█' * 40} 1",
        "                  5   0",
        f"                  6  {'█' * 40} 1",
        "  mean 4.3, median 4",
        "",
        "symbols: 5 in the training split (characters), 2 of them occur once",
        "  most frequent: a 30.8%, ⏎ 23.1%, b 15.4%, n 15.4%, ␣ 7.7%, o 7.7%",
        "",
        "as the network sees them:",
        "  ana⏎",
        "  bo⏎",
        "  ana b⏎",
    ]


def test_a_joined_text_shows_its_beginning() -> None:
    corpus = Corpus.of(Characters(), ["\x1b[2Jab\n" * 200], ["ab"], {"source": "text"})
    lines = list(report(corpus, examples=3))
    assert lines[:4] == ["text", "", "train: 1,399 targets", "val:   1 targets"]
    assert "state: one after the other, the state carried" in lines
    assert lines[-1].startswith("  \\x1b[2Jab↵\\x1b[2Jab↵")
    assert len(lines[-1]) <= 102
    assert "lengths" not in "".join(lines)


def test_events_are_apart() -> None:
    corpus = Corpus.of(Symbols(), [["check ticket", "pay"]] * 20, [["pay"]], {"source": "log"}, ended=True, joined=False)
    lines = list(report(corpus, examples=2))
    assert lines[-2:] == ["  check ticket, pay⏎"] * 2
    assert any("check ticket 33.3%" in line for line in lines)


def test_the_lengths_of_joined_texts_without_ends() -> None:
    lines = list(report(Corpus.of(Characters(), ["aaa", "aa", "aaa"], ["aa"]), examples=1))
    first = lines.index("lengths of the sequences:")
    assert lines[first + 1 : first + 4] == [
        f"                  2  {'█' * 20} 1",
        f"                  3  {'█' * 40} 2",
        "  mean 2.7, median 3",
    ]


@pytest.mark.parametrize("lengths", [[1], [5] * 9, [1, 1000, 100000], list(range(1, 200)), [3, 3, 30]])
def test_every_length_is_counted_once(lengths: list[int]) -> None:
    *bars, mean = histogram(np.array(lengths))
    assert sum(int(bar.rpartition(" ")[2].replace(",", "")) for bar in bars) == len(lengths)
    assert 1 <= len(bars) <= 13
    assert f"mean {np.mean(lengths):.1f}" in mean


def test_the_command_names_the_next_one_and_never_imports_torch(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
    (tmp_path / "names.txt").write_text("ana\nbo\n" * 20)
    command = [sys.executable, str(PROJECT / "src" / "prepare.py"), "data=lines", "data.path=names.txt", "examples=2"]
    result = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")
    train = shlex.quote(str(PROJECT / "src" / "train.py"))
    assert result.stdout.endswith(f"\ntrain:   python {train} data=lines data.path=names.txt\n")
    assert "train: 36 sequences, 128 targets" in result.stdout


def test_a_text_larger_than_memory_is_prepared_and_its_folder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("throughline.data.sources.text.LARGE", 100)
    (tmp_path / "x.txt").write_text("the quick brown fox. " * 9)
    settings = Prepare(data=Text(str(tmp_path / "x.txt")), output_root=str(tmp_path / "outputs"))
    prepare(settings)
    first = capsys.readouterr().out
    (folder,) = (path for path in (tmp_path / "outputs" / "prepared").iterdir() if path.is_dir() and not path.is_symlink())
    size = sum(path.stat().st_size for path in folder.iterdir())
    assert f"\nprepared: {size:,} bytes in {folder}, " in first
    assert " s when they were made (" in first
    assert "train: 169 targets" in first
    prepare(settings)
    assert capsys.readouterr().out == first  # also how long it took: nothing was prepared again
    config = Config(data=settings.data, output_root=settings.output_root)
    corpus = config.read()
    assert corpus.prepared is not None
    assert corpus.prepared.folder == str(folder)
    assert corpus.source is not None
    assert corpus.source["prepared_path"] == str(tmp_path / "outputs" / "prepared")  # evaluation finds it there
    assert "data.prepared_path" not in config.differences()
