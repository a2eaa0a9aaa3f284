"""The wrong tables that docs/bad-input.md names."""

import gzip
from pathlib import Path

LOG = "case,activity,time\n1,a,2021-01-04 10:00:00\n1,b,2021-01-04 10:01:00\n2,a,2021-01-05 10:00:00\n"


def prepare(folder: Path) -> None:
    """Write them."""
    tables = {
        "tab-log.csv": LOG,
        "tab-ragged.csv": "a,b\n1,2\n3\n",
        "tab-open.csv": 'a,b\n1,"2\n3,4\n',
        "tab-twice.csv": "a,a\n1,2\n",
        "tab-header.csv": "a,b\n",
        "tab-nothing.csv": "\n\n",
        "tab-missing.csv": "case,activity\n1,a\n1,\n",
        "tab-nocase.csv": "case,activity\n1,a\n,b\n",
        "tab-mixed.csv": "n,e\n1,a\n2021-01-01,b\n",
        "tab-day.csv": "t,e\n01/02/2021,a\n",
        "tab-zones.csv": "t,e\n2021-01-01 10:00,a\n2021-01-01T10:00Z,b\n",
        "tab-twohot.csv": "a,b\n1,1\n",
        "tab-real.csv": "day,temp\n" + "".join(f"d{i},{i * i / 64 + 0.5}\n" for i in range(60)),
        "tab-gap.csv": "day,temp\n1,0.5\n2,\n3,1.5\n",
        "tab-inf.csv": "day,temp\n1,0.5\n2,inf\n3,1.5\n",
        "tab-comma.csv": "day;temp\n1;0,5\n2;1,5\n",
        "tab-level.csv": "day,temp\n" + "".join(f"{i},5.5\n" for i in range(20)),
        "tab-lists.jsonl": '{"s": [[1, 2.5], [3]]}\n',
        "tab-bad.jsonl": '{"e": "a"}\n{bad\n',
        "tab-list.jsonl": "[1, 2]\n",
        "tab-deep.jsonl": '{"e": {"a": 1}}\n',
        "tab-unlike.jsonl": '{"e": "a"}\n{"e": ["a"]}\n',
        "tab-none.parquet": "no Parquet",
    }
    for name, text in tables.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "tab-torn.parquet").write_bytes(b"PAR1" + bytes(20) + b"PAR1")
    (folder / "tab-bomb.csv.gz").write_bytes(gzip.compress(b"a,b\n" + b"1,2\n" * 2**25))
