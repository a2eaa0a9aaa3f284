"""Write docs/settings.md from the settings classes: python docs/write_settings.py."""

import inspect
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_origin

from throughline.commands.compare import Compare
from throughline.commands.evaluate import Evaluate
from throughline.commands.export import Export
from throughline.commands.generate import Generate
from throughline.commands.prepare import Prepare
from throughline.commands.score import Score
from throughline.config import Config
from throughline.settings import defaults, explained, kinds, targets, word

PAGE = Path(__file__).with_name("settings.md")
INTRODUCTION = """# Every setting

On the command line of `python src/train.py`, `group=choice` picks a choice and `key=value` sets one value. In Python the
same names are classes and their arguments: `regime.bptt=64` is `Config(regime=Stateful(bptt=64))`. A value
that is shown here is the default.

This page is written by `make settings` from the classes, so that a setting is described in one place.
"""


def summary(cls: type[Any]) -> str:
    """The first paragraph of the docstring of a class."""
    return " ".join((inspect.getdoc(cls) or "").split("\n\n")[0].split())


def lines(cls: type[Any], prefix: str) -> Iterator[str]:
    about = explained(cls)
    for key, value in defaults(cls).items():
        if not isinstance(value, dict):
            shown = {"???": "(required)", "None": "null", "True": "true", "False": "false"}.get(str(value), str(value))
            yield f"- `{prefix}{key}` {f'= `{shown}`' if value != '???' else shown}. {about.get(key, '')}".rstrip()


def page() -> str:
    parts = [INTRODUCTION, "## The run\n", *lines(Config, "")]
    about = explained(Config)
    for f in fields(Config):
        (kind,) = kinds(f.type) or [None]
        if kind is None:
            continue
        parts.append(f"\n## {f.name}\n\n{about.get(f.name) or summary(kind)}\n")
        if inspect.isabstract(kind):
            for cls in targets(kind).values():
                own = [*lines(cls, f"{f.name}.{word(cls)}." if get_origin(f.type) is dict else f"{f.name}.")]
                parts += [f"### {cls.__name__}\n\n{summary(cls)}\n", *own, *([""] if own else [])]
        else:
            parts += lines(kind, f"{f.name}.")
    for name, cls in (
        ("prepare", Prepare),
        ("evaluate", Evaluate),
        ("generate", Generate),
        ("score", Score),
        ("export", Export),
        ("compare", Compare),
    ):
        parts += [f"\n## {name}.py\n", *lines(cls, "")]
    text = "\n".join(parts)
    while "\n\n\n" in text:
        text = text.replace("\n\n\n", "\n\n")
    return text.rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
