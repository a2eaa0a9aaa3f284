"""The arguments of a command as a person types them, and as Hydra has to be given them.

Hydra reads values in a grammar of its own, in which spaces, quotes, commas and many other signs have a meaning. Here, the
value of every setting that is a text (a path, a name of a column, a prompt) is taken as it stands. Only with `-m`, a comma
separates values.
"""

import argparse
import inspect
import re
from collections.abc import Iterator
from dataclasses import fields
from typing import Any, get_args, get_origin

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString
from hydra.errors import HydraException

from throughline.plumbing.errors import UserError
from throughline.settings import Escapes, kinds, targets

WITH_VALUE = ("-cd", "--config-dir", "-cn", "--config-name", "-cp", "--config-path", "-p", "--package", "-c", "--cfg")
"""The options of Hydra that are followed by a value."""
SWEEPS = ("-m", "--multirun")
FOLDERS = ("hydra.run.dir", "hydra.sweep.dir", "output_root")
"""Settings whose folders Hydra makes before the settings are checked."""


def read_options(arguments: list[str]) -> argparse.Namespace:
    """The options among the arguments.

    Raises:
        UserError: they do not fit together, and Hydra would ignore one or end with a traceback.
    """
    parser = get_args_parser()
    parser.usage = argparse.SUPPRESS  # eight lines before the one that names the mistake
    options = parser.parse_intermixed_args(arguments)
    if (options.resolve or options.package) and not (options.cfg or options.help):
        raise UserError("--resolve and --package belong to --cfg: give --cfg job as well")
    if [options.run, options.multirun, bool(options.cfg), options.shell_completion, bool(options.info)].count(True) > 1:
        raise UserError("give only one of --run, --multirun, --cfg, --info and --shell-completion")
    if options.experimental_rerun is not None:
        raise UserError("--experimental-rerun is not supported: `resume=FILE` continues a run exactly")
    if options.multirun and not options.overrides:
        raise UserError("--multirun: there is nothing to combine; give several values, for example seed=1,2")
    return options


def for_hydra(arguments: list[str], cls: type[Any]) -> list[str]:
    """The arguments for Hydra: options first, and texts quoted where Hydra would take them for something else.

    Args:
        arguments: as typed, without the name of the program.
        cls: the settings class of the command.
    """
    options, overrides = _apart(arguments)
    sweep, texts = any(option in SWEEPS for option in options), dict(text_settings(cls))
    quoted = []
    for override in overrides:
        key, sign, value = override.partition("=")
        if sign and not (key and (value or key not in FOLDERS)):
            raise UserError(f"{override}: {'the path is empty' if key else 'give KEY=VALUE'}")
        if key.lstrip("+~") == "_target_":
            raise UserError(f"{override}: there is no such setting; `--cfg job` shows every key")
        if sign and (name := key.lstrip("+")) in texts and not (name.startswith("hydra.") and "${" in value):
            value = _escaped(value) if texts[name] is Escapes else value
            pieces = re.split(r",(?![^\[]*\])", value) if sweep else [value]  # a comma in brackets separates parts of a list
            override = f"{key}={','.join(_as_text(piece) for piece in pieces)}"
        quoted.append(override)
    return [*options, *quoted]


def _apart(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Options, and overrides: they may stand in any order, but Hydra wants the overrides side by side."""
    options, overrides, rest = [], [], iter(arguments)
    for argument in rest:
        if argument.startswith("-"):
            options.append(argument)
            if argument in WITH_VALUE:
                options += [value for value in [next(rest, None)] if value is not None]
        else:
            overrides.append(argument)
    return options, overrides


def text_settings(cls: type[Any]) -> Iterator[tuple[str, Any]]:
    """The names of the settings that are texts, each with `Escapes` if it may hold them, of every choice of every group."""
    yield from (("hydra.run.dir", None), ("hydra.sweep.dir", None))
    for field in fields(cls):
        kind = _text(field.type)
        if kind is not None:
            yield field.name, kind
        for group in kinds(field.type):
            for choice in targets(group).values() if inspect.isabstract(group) else [group]:
                for inner in fields(choice):
                    if (kind := _text(inner.type)) is not None:
                        yield f"{field.name}.{inner.name}", kind


def _text(of: Any) -> Any:
    """`Escapes` for the type of a text with escapes, `str` for that of another text, None for any other type."""
    if of is str:
        return str
    arguments = get_args(of)
    if Escapes in arguments:
        return Escapes
    if get_origin(of) in (list, dict) or not arguments:
        return None
    return next((kind for argument in arguments if (kind := _text(argument)) is not None), None)


def _as_text(value: str) -> str:
    """The value as Hydra reads it as this text; `null`, and a list in brackets that it can read, are left to Hydra."""
    if value == "null":
        return value
    listed = value.startswith("[") and value.endswith("]")
    try:
        read = OverridesParser.create().parse_override(f"key={value}")
        if listed:
            return value
        # Hydra drops spaces at the ends, and reads `${...}` as the name of another value.
        if "${" not in value and not read.is_sweep_override() and isinstance(read.value(), str) and read.value() == value:
            return value
    except HydraException:
        if listed:
            return f"[{','.join(_as_text(piece.strip()) for piece in value[1:-1].split(','))}]"
    value = re.sub(r"(\\*)\$\{", lambda match: 2 * match[1] + r"\${", value)
    # Within quotes only backslashes before a quote have a meaning.
    return "'" + re.sub(r"(\\*)('|$)", lambda m: 2 * m[1] + (m[2] and r"\'"), value) + "'"


ESCAPE = re.compile(r"\\(?:[\\ntr]|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4})")
NAMED = {"\\\\": "\\", "\\n": "\n", "\\t": "\t", "\\r": "\r"}


def _escaped(value: str) -> str:
    """The text in which `\\n` and other escapes are the characters that they name; an unknown escape stays as it is."""
    return ESCAPE.sub(lambda match: NAMED.get(match[0]) or chr(int(match[0][2:], 16)), value)


def shown(value: Any) -> str:
    """A value of an override as a person typed it."""
    return value.text if isinstance(value, QuotedString) else str(value)
