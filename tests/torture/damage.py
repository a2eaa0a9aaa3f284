"""Random damage of every file that a run leaves: each time one line, or the result that was there before."""

import random
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from rich.table import Table

from helpers import weights_hash, without_times
from throughline.results.run import read_run
from torture.life import _live, command
from torture.signals import COMMAND, new

MUTATIONS = 320


def flipped(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content))
    return content[:place] + bytes([content[place] ^ (1 << rng.randrange(8))]) + content[place + 1 :]


def torn(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def doubled(content: bytes, rng: random.Random) -> bytes:
    first, last = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    return content[:last] + content[first:]


def cut_out(content: bytes, rng: random.Random) -> bytes:
    first, last = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    return content[:first] + content[last:]


def digit(content: bytes, rng: random.Random) -> bytes:
    places = [place for place, byte in enumerate(content) if 48 <= byte <= 57] or [0]
    place = rng.choice(places)
    return content[:place] + str(rng.randrange(10)).encode() + content[place + 1 :]


def line_lost(content: bytes, rng: random.Random) -> bytes:
    lines = content.splitlines(keepends=True)
    del lines[rng.randrange(len(lines))]
    return b"".join(lines)


KINDS: list[Callable[[bytes, random.Random], bytes | None]] = [
    *(flipped, torn, doubled, cut_out, digit, line_lost),
    lambda content, rng: b"",
    lambda content, rng: rng.randbytes(len(content)),
    lambda content, rng: None,  # lost
]


def torture_damage(root: Path, rng: random.Random, table: Table) -> list[str]:
    """Damage one file at a time, then compare, generate and resume; returns what went wrong."""
    wrong: list[str] = []
    whole = new(root, "whole")
    ended, stdout, stderr = command(whole, "train", *COMMAND)
    assert ended.status == 0, stdout + stderr
    (run,) = whole.glob("out/2*/*")
    names = [file.relative_to(run) for file in sorted(run.rglob("*")) if file.is_file() and file.name != ".lock"]
    wanted = weights_hash(run), without_times(run)
    result = read_run(run)
    assert not result.fault
    ask = ["checkpoint=checkpoints/best.ckpt", "length=30", "seed=1", "prompt=the "]
    _, text, _ = command(run, "generate", *ask)
    counts: dict[Path, Counter[str]] = {name: Counter() for name in names}
    for number in range(MUTATIONS):
        name, kind = names[number % len(names)], rng.choice(KINDS)
        shutil.rmtree(root / "damaged", ignore_errors=True)
        shutil.copytree(whole, root / "damaged")
        folder = root / "damaged" / run.relative_to(whole)
        changed = kind((folder / name).read_bytes(), rng)
        if changed == (folder / name).read_bytes():
            changed = b"\0" + changed
        (folder / name).unlink()
        if changed is not None:
            (folder / name).write_bytes(changed)
        at, said = f"{name} ({getattr(kind, '__name__', kind)}, mutation {number})", False

        def compare(folder: Path = folder) -> None:
            now = read_run(folder)
            alike = (now.metrics, now.curve, now.by_position, now.passage, now.settings) == (
                *(result.metrics, result.curve, result.by_position, result.passage, result.settings),
            )
            sys.exit(0 if alike and not now.fault else 2 if now.fault else 3)

        status, *_ = _live(compare, 20.0, signal.SIGKILL, patience=0.0)
        said |= status == 2
        if status not in (0, 2):
            wrong.append(f"compare, {at}: status {status}")
        if name.name == "best.ckpt":
            ended, stdout, stderr = command(folder, "generate", *ask)
            said |= ended.status == 2
            if (ended.status, stdout) != (0, text) and not (ended.status == 2 and one_line(stderr)):
                wrong.append(f"generate, {at}: status {ended.status}, {stderr[-200:]}")
        ended, stdout, stderr = command(root / "damaged", "train", *COMMAND)
        said |= ended.status == 2
        if ended.status == 0:
            now = next(iter(sorted((root / "damaged").glob("out/2*/*/summary.json"), reverse=True))).parent
            if (weights_hash(now), without_times(now)) != wanted:
                wrong.append(f"resume, {at}: another result")
        elif not (ended.status == 2 and one_line(stderr)):
            wrong.append(f"resume, {at}: status {ended.status}, {stderr[-200:]}")
        counts[name]["named" if said else "as before"] += 1
    for name, found in counts.items():
        table.add_row(str(name), str(sum(found.values())), str(found["named"]), str(found["as before"]))
    return wrong


def one_line(stderr: str) -> bool:
    return stderr.startswith("error: ") and len(stderr.splitlines()) == 1
