"""The wrong inputs of commands that use a trained model, which docs/bad-input.md names."""

from pathlib import Path

from helpers import KINDS, saved
from throughline.runs.trained import load


def prepare(folder: Path) -> None:
    """Write a model of the letters a to h, a state of it, a torn one, and tables of pairs."""
    saved(folder / "use.ckpt", *KINDS["embedding"])
    live = load(folder / "use.ckpt").live()
    assert len(list(live.read([1, 2]))) == 1
    live.save(folder / "use.state")
    (folder / "torn.state").write_bytes((folder / "use.state").read_bytes()[:-20])
    (folder / "use-lines.txt").write_text("ab\nbc\n" * 20, encoding="utf-8")
    for name, table in {
        "pairs": "from,to\na,b\nb,c\n",
        "closed": "from,to\na,b\nb,a\n",
        "strange": "from,to\na,xy\n",
        "columns": "a,b\n1,2\n",
        "short": "from,to\na,b\nb\n",
        "comma": "from,to\na,,\n",
    }.items():
        (folder / f"{name}.csv").write_text(table, encoding="utf-8")
