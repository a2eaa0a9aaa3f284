"""Reads files that may come from anybody: only regular files, only so many bytes, and only plain values."""

import json
import os
import re
import stat
import unicodedata
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import IO, Any

import yaml  # type: ignore[import-untyped]

from throughline.plumbing.errors import UserError

DEEPEST = 32
"""How deeply plain values may be nested."""
LARGEST = 2**1023
"""The largest whole number: every number fits a float, and can be printed."""


def printable(value: Any, most: int | None = None) -> str:
    r"""A value as one line of text; what no terminal or page shows as a sign is an escape: `\x1b`, `\u202e`, `\udc80`.

    Args:
        most: the length of the longest line; a longer one is cut off.
    """
    line = "".join(sign if _visible(sign) else ascii(sign)[1:-1] for sign in str(value))
    return line if most is None or len(line) <= most else line[: most - 3] + "..."


def escaped(text: str) -> str:
    """Text of several lines in which all other signs that are not printed are escapes, such as `\\x1b`."""
    return "".join(sign if sign in "\n\t" or _visible(sign) else ascii(sign)[1:-1] for sign in text)


def _visible(sign: str) -> bool:
    return sign.isprintable() or unicodedata.category(sign) == "Zs"  # spaces of other widths are part of many texts


PIECE = 2**16
"""The bytes read at once beyond the size that a file claims; memory for `most` would be taken at once."""


def opened(path: Path, most: int) -> IO[bytes]:
    """A regular file, open to be read; nothing else is waited for or read from.

    Args:
        most: how many bytes it may have.

    Raises:
        UserError: it cannot be read, is no regular file, or is larger.
    """
    try:
        number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as error:
        raise _refused(path, getattr(error, "strerror", None) or str(error)) from None
    found = os.fstat(number)
    if stat.S_ISREG(found.st_mode) and found.st_size <= most:
        return os.fdopen(number, "rb")
    os.close(number)
    raise _refused(path, f"larger than {most:,} bytes" if stat.S_ISREG(found.st_mode) else "not a regular file")


def content(path: Path, most: int) -> bytes:
    """The bytes of a regular file of at most `most` bytes.

    Raises:
        UserError: as in `opened`.
    """
    with opened(path, most) as file:
        try:
            found = file.read(os.fstat(file.fileno()).st_size + 1)  # of a file in /proc it is 0
            while len(found) <= most and (more := file.read(PIECE)):
                found += more
        except OSError as error:
            raise _refused(path, error.strerror or str(error)) from None
    if len(found) > most:
        raise _refused(path, f"larger than {most:,} bytes")
    return found


def text(path: Path, most: int) -> str:
    """The text of a regular file in UTF-8.

    Raises:
        UserError: as in `content`, or it is no UTF-8.
    """
    try:
        return content(path, most).decode("utf-8")
    except UnicodeDecodeError as error:
        raise _refused(path, f"not UTF-8 at byte {error.start}") from None


def json_values(path: Path, most: int) -> Any:
    """The plain values of a JSON file.

    Raises:
        UserError: as in `text`, or it is no JSON, names a key twice, is nested too deeply, or holds too large a number.
    """
    try:
        return _plain(json.loads(text(path, most), object_pairs_hook=_unique))
    except (ValueError, RecursionError) as error:
        raise _refused(path, f"not JSON: {error}") from None


def yaml_values(path: Path, most: int) -> Any:
    """The plain values of a YAML file; `${...}` in it stays text.

    Raises:
        UserError: as in `text`, or it is no YAML, has anchors, aliases, tags or several documents, names a key twice, is
            nested too deeply, or holds too large a number.
    """
    written = text(path, most)
    try:
        depth = 0
        for event in yaml.parse(written, Loader=_Loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                raise ValueError("nested too deeply")
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) or getattr(event, "tag", None):
                raise ValueError("anchors, aliases and tags are not allowed")
        return _plain(yaml.load(written, Loader=_Loader))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _refused(path, f"not YAML: {error}") from None


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML as OmegaConf writes it: 1e-3 is a number, a date is text."""

    yaml_implicit_resolvers = {  # noqa: RUF012  # as in the base class
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":merge"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        found: dict[Hashable, Any] = super().construct_mapping(node, deep)
        if len(found) < len(node.value):
            raise ValueError("a key is named twice")
        return found


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+\Z"), list("-+0123456789"))


def _unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    pairs = list(pairs)
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is named twice")
    return found


def _plain(node: Any, depth: int = 0) -> Any:
    """The node itself, if it consists of plain values only.

    Raises:
        ValueError: it does not.
    """
    if depth > DEEPEST:
        raise ValueError("nested too deeply")
    if isinstance(node, dict | list):
        for part in [*node, *node.values()] if isinstance(node, dict) else node:
            _plain(part, depth + 1)
    elif isinstance(node, int) and abs(node) > LARGEST:
        raise ValueError("a number is too large")
    elif not isinstance(node, str | int | float | None):
        raise ValueError(f"{type(node).__name__} is no plain value")
    return node


def _refused(path: Path, why: str) -> UserError:
    return UserError(printable(f"{path}: {' '.join(why.split())}"))
