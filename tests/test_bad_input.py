"""Every row of docs/bad-input.md: what a command says about a wrong input, and with which status it ends.

Each row runs in a forked child of this process, which has imported everything, so that a row takes a fraction of a second.
"""

import os
import re
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from bad_inputs import arrays, generating, prepared, subwords, tables, texts, tokens, using
from helpers import KINDS as MODELS
from helpers import PROJECT, fox, run_as_from_hydra, saved, sealed
from throughline.commands import start

PAGE = PROJECT / "docs" / "bad-input.md"


class Row(NamedTuple):
    command: str
    message: str
    status: int


def rows() -> Iterator[Row]:
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        found = re.fullmatch(r"\| `(\w+\.py .*)` \| (.*) \| (\d+) \|", line)
        if found:
            yield Row(found[1].replace("\\|", "|"), found[2].replace("\\|", "|"), int(found[3]))


ROWS = list(rows())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    prepare(folder)
    return folder


def prepare(folder: Path) -> None:
    """The inputs that the rows name."""
    for module in (texts, tables, arrays, generating, prepared, subwords, tokens, using):
        module.prepare(folder)
    (folder / "fox.txt").write_text("the quick brown fox jumps over the lazy dog. " * 60, encoding="utf-8")
    (folder / "short.txt").write_text("ab", encoding="utf-8")
    (folder / "empty.txt").touch()
    (folder / "latin1.txt").write_bytes("größe ".encode("latin-1") * 50)
    (folder / "events.csv").write_text("time,activity\n1,a\n2,b\n3,a\n" * 1, encoding="utf-8")
    (folder / "spaces.csv").write_text("activity\na b\n", encoding="utf-8")
    (folder / "quotes.csv").write_text('activity\n"a\n', encoding="utf-8")
    np.save(folder / "rows.npy", np.full((5, 3), 2))
    np.save(folder / "cube.npy", np.zeros((2, 3, 4)))
    (folder / "zip.npy").write_bytes(b"PK\3\4 and more")
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 3), }"
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    (folder / "huge.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    (folder / "some" / "runs").mkdir(parents=True)
    (folder / "text.ckpt").write_text("no checkpoint", encoding="utf-8")
    os.mkfifo(folder / "pipe")
    run_as_from_hydra(fox(), folder / "run", "budget.tokens=100")
    whole = (folder / "run" / "checkpoints" / "last.ckpt").read_bytes()
    (folder / "damaged.ckpt").write_bytes(whole[:500] + b"x" + whole[501:])
    (folder / "torn.ckpt").write_bytes(whole[:-100])
    model = saved(folder / "weights.ckpt", *MODELS["embedding"])
    sealed({"throughline": {"format": 2}, "state_dict": model.state_dict()}, folder / "nothing.ckpt")
    (folder / "mine" / "model").mkdir(parents=True)
    (folder / "mine" / "model" / "torn.yaml").write_text("dropout: 0.1\ndropout: 0.2\n", encoding="utf-8")
    (folder / "mine" / "broken.yaml").write_text("a: [1", encoding="utf-8")


def said(folder: Path, command: str) -> tuple[int, str]:
    """The status of a command and what it writes to stderr."""
    program, *arguments = shlex.split(command)
    pid = os.fork()
    if pid == 0:
        status = 0
        try:
            signal.alarm(30)  # a command that hangs fails its row
            os.chdir(folder)
            for number, file in ((0, os.devnull), (1, "stdout"), (2, "stderr")):
                os.dup2(os.open(file, os.O_RDWR | os.O_CREAT | (os.O_TRUNC if number else 0), 0o644), number)
            for number, stream in ((1, "stdout"), (2, "stderr")):
                setattr(sys, stream, os.fdopen(number, "w", encoding="utf-8", closefd=False))
            sys.argv = [program, *arguments]
            torch.set_num_threads(1)
            start.run(program.removesuffix(".py"), folder)
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 1
        except BaseException:
            import traceback

            traceback.print_exc()
            status = 99
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return status, (folder / "stderr").read_text(encoding="utf-8").replace(str(folder), "FOLDER")


def test_there_are_rows_of_every_command() -> None:
    assert len(ROWS) >= 80
    assert {row.command.split(".")[0] for row in ROWS} >= {"train", "evaluate", "generate", "export", "compare", "score"}
    assert len({row.command for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.command[:60])
def test_a_wrong_input_gets_its_line_and_its_status(row: Row, folder: Path) -> None:
    status, stderr = said(folder, row.command)
    lines = [line.removeprefix("error: ") for line in stderr.splitlines()]
    assert (status, lines[-1:]) == (row.status, lines), stderr
    pattern = ".*".join(map(re.escape, row.message.split("...")))
    assert re.fullmatch(pattern, lines[0]), lines[0]
