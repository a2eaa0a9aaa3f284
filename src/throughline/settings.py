"""How settings are checked: the ranges that values may have, groups of keys, and the classes that `_target_` may name.

The fields of a settings class are its only schema. Pydantic checks them. Nothing here imports torch, so a typo is reported
at once.

`_target_` chooses the class where the settings class is abstract (a regime, a source, a core, ...). Two kinds of subclasses
are allowed: those beside it in this package, and those in a user's own modules. Such modules are Python files in the folders
that `-cd` names. No other module is ever imported.
"""

import ast
import importlib
import importlib.util
import inspect
import pkgutil
import re
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import MISSING, asdict, fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import AfterValidator, ConfigDict, Field, ValidationError
from pydantic.dataclasses import is_pydantic_dataclass

from throughline.plumbing.errors import UserError

# Validators are built on first use: a command uses few of the classes, and each takes milliseconds to build.
STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True, defer_build=True)

PositiveInt = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Probability = Annotated[float, Field(ge=0, lt=1)]


def home_expanded(path: str) -> str:
    """The path with the home folder in place of a `~` at its beginning."""
    return str(Path(path).expanduser()) if path == "~" or path.startswith("~/") else path


def _path(path: str) -> str:
    if not path:
        raise ValueError("the path is empty")
    if "\0" in path or any("\ud800" <= c <= "\udfff" for c in path):
        raise ValueError(f"{path!r} holds a character that no path can hold")
    return home_expanded(path)


def _paths(paths: str | list[str]) -> str | list[str]:
    if isinstance(paths, str):
        return _path(paths)
    if not paths:
        raise ValueError("the list of paths is empty")
    return [_path(path) for path in paths]


class Escapes:
    """Marks text in which the command line writes a line break as `\\n`, and other characters likewise."""


PathStr = Annotated[str, AfterValidator(_path)]
"""The path of a file or a folder; `~` at its beginning is the home folder."""
Paths = Annotated[str | list[str], AfterValidator(_paths)]
"""The path of a file or a folder, a pattern, or a list of them."""
EscapedStr = Annotated[str, Field(min_length=1), Escapes]
"""Text that may hold line breaks and other characters that are hard to type."""

T = TypeVar("T")


def word(cls: type[Any] | str) -> str:
    """The plain word for a settings class, as used in YAML files and checkpoints: `ShuffledCarry` is shuffled_carry."""
    name = cls.rpartition(".")[2] if isinstance(cls, str) else cls.__name__
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])", "_", name).lower()


def plain(settings: Any, key: str = "name") -> dict[str, Any]:
    """Settings as dicts, lists, strings and numbers; `key` holds the plain word for their class."""
    return {key: word(type(settings)), **asdict(settings)}


def from_plain(base: type[T], values: dict[str, Any], key: str = "name", where: str = "") -> T:
    """Rebuild settings from the plain values that `plain` returned.

    Args:
        where: the prefix of key names in messages, for example "model.".

    Raises:
        UserError: no known class has that word, or a value is not allowed.
    """
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise UserError(f"{where.rstrip('.') or key}: not a group of keys")
    values = dict(values)
    name = values.pop(key, None)
    known = {word(cls): cls for cls in [*targets(base).values(), *_loaded(base)]}
    if not isinstance(name, str) or name not in known:
        raise UserError(
            f"{where}{key}={name!r}: allowed are {', '.join(sorted(known))}, or your own class, named by -cd and a YAML file"
        )
    return checked(known[name], values, where=where)


def _loaded(base: type[T]) -> list[type[T]]:
    """The classes of users' modules that a `_target_` has named in this process."""
    return [cls for sub in base.__subclasses__() for cls in (sub, *_loaded(sub)) if not inspect.isabstract(cls)]


def checked(cls: type[T], values: dict[str, Any], folders: Sequence[Path] = (), where: str = "") -> T:
    """Build the settings class `cls` from plain values.

    Args:
        cls: a dataclass.
        values: by field name; a field whose type is a settings class takes a dict.
        folders: folders that may hold users' own modules.
        where: the prefix of key names in messages.

    Raises:
        UserError: one line per wrong key: the key, its value, and the allowed values.
    """
    built, lines = dict(values), _out_of_range(values, where)
    for f in fields(cls):  # type: ignore[arg-type]
        if f.name not in values:
            continue
        try:
            built[f.name] = _field(f.name, f.type, values[f.name], folders)
        except UserError as error:
            lines.append(str(error))
    if not lines:
        try:
            return cls(**built)
        except ValidationError as error:
            lines = _lines(error, cls, where)
    else:  # unknown names can still be reported
        names = [f.name for f in fields(cls)]  # type: ignore[arg-type]
        unknown = [key for key in values if key not in names]
        lines += [
            f"{where}{key} is not a key of {where.rstrip('.') or 'the config'}: allowed are {', '.join(names)}"
            for key in unknown
        ]
    raise UserError("\n".join(lines))


LARGEST_INT, LARGEST_FLOAT = 2**53, 3.4e38
"""The largest numbers that a float64 holds exactly, and that a float32 holds at all."""


def _out_of_range(values: dict[str, Any], prefix: str = "") -> list[str]:
    """A line for each number that no tensor can hold."""
    lines = []
    for key, value in values.items():
        for number in value if isinstance(value, list | tuple) else [value]:
            if isinstance(number, int) and abs(number) > LARGEST_INT:
                lines.append(f"{prefix}{key}={number}: a whole number must be at most 2**53")
            elif isinstance(number, float) and abs(number) > LARGEST_FLOAT:
                lines.append(f"{prefix}{key}={number}: a number must be finite and at most {LARGEST_FLOAT:g}")
    return lines


def defaults(cls: type[Any]) -> dict[str, Any]:
    """The defaults of a settings class as plain values, by field; "???" stands for a missing default.

    Fields that `_target_` chooses are left out, because the files of their group hold them.
    """
    values: dict[str, Any] = {}
    for f in fields(cls):
        if any(map(inspect.isabstract, kinds(f.type))):
            continue
        value = f.default_factory() if f.default_factory is not MISSING else f.default
        values[f.name] = "???" if value is MISSING else asdict(value) if is_dataclass(value) else value  # type: ignore[arg-type]
    return values


def explained(cls: type[Any]) -> dict[str, str]:
    """The docstring under each field of a class and of the classes of this package that it builds on, in one line."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if base.__module__.startswith("throughline."):
            body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0].body  # type: ignore[attr-defined]
            for field, text in pairwise(body):
                if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                    found[ast.unparse(field.target)] = " ".join(str(text.value.value).split())
    return found


def kinds(of: Any) -> list[type[Any]]:
    """The settings classes in the type of a field, abstract or not."""
    types = (*get_args(of), of)
    return [kind for kind in types if inspect.isclass(kind) and (is_dataclass(kind) or inspect.isabstract(kind))]


def _field(name: str, of: Any, value: Any, folders: Sequence[Path]) -> Any:
    """The value of a field: a group if its type is a settings class, or groups by name if its type is a dict of them."""
    if value is None and type(None) in get_args(of):
        return None
    found = kinds(of)
    if not found:
        return value
    if get_origin(of) is dict:
        if not isinstance(value, dict):
            raise UserError(f"{name}={value!r}: give groups of keys by name")
        if "_target_" in value:
            raise UserError(f"{name}._target_: nest it under a name that you choose: {name}.NAME._target_")
        return {key: _group(f"{name}.{key}", found[0], values, folders) for key, values in value.items()}
    return _group(name, found[0], value, folders)


def _group(name: str, cls: type[Any], values: Any, folders: Sequence[Path]) -> Any:
    """Build one group. Its class is `cls`, or the subclass that `_target_` names if `cls` is abstract."""
    if not isinstance(values, dict):
        example = f", for example {name}.{fields(cls)[0].name}=..." if is_dataclass(cls) and fields(cls) else ""
        raise UserError(f"{name}={values!r}: give a group of keys{example}")
    values = dict(values)
    if inspect.isabstract(cls):
        cls = target_class(name, cls, values.pop("_target_", None), folders)
    if lines := _out_of_range(values, f"{name}."):
        raise UserError("\n".join(lines))
    try:
        return cls(**values)
    except ValidationError as error:
        raise UserError("\n".join(_lines(error, cls, f"{name}."))) from None


def target_class(name: str, base: type[Any], target: Any, folders: Sequence[Path]) -> type[Any]:
    """The class that `_target_` names: one of this package, or one in a user's own module."""
    ours = targets(base)
    if isinstance(target, str) and target in ours:
        return ours[target]
    module_name, _, class_name = str(target).rpartition(".")
    module = _own_module(name, target, module_name, folders)
    if module is None:
        where = f"; or a class in a module in {', '.join(map(str, folders))}" if folders else ""
        raise UserError(f"{name}._target_={target!r}: allowed are {', '.join(sorted(ours))}{where}")
    cls = getattr(module, class_name, None)
    if not (inspect.isclass(cls) and issubclass(cls, base)):
        raise UserError(
            f"{name}._target_={target!r}: {module.__file__} has no such subclass of {base.__module__}.{base.__name__}"
        )
    if inspect.isabstract(cls):
        lacking = ", ".join(sorted(getattr(cls, "__abstractmethods__", ())))
        raise UserError(f"{name}._target_={target!r}: {module.__file__}: the class has to define {lacking}")
    if word(cls) in map(word, ours.values()):
        raise UserError(f"{name}._target_={target!r}: {word(cls)} is a class of throughline; give yours another name")
    if not is_pydantic_dataclass(cls) or "__pydantic_config__" not in vars(cls):
        raise UserError(
            f"{name}._target_={target!r}: its fields are not checked; put @dataclass(frozen=True, config=STRICT) before it, "
            "from pydantic.dataclasses and throughline.settings"
        )
    return cls


def _own_module(name: str, target: Any, module_name: str, folders: Sequence[Path]) -> ModuleType | None:
    """Import a user's module; None, without any import, if no file in `folders` has that name."""
    parts = module_name.split(".")
    if not all(part.isidentifier() for part in parts):
        return None
    for folder in folders:
        path = folder.joinpath(*parts)
        file = next(filter(Path.is_file, (path.with_suffix(".py"), path / "__init__.py")), None)
        if file is None:
            continue
        if str(folder) not in sys.path:
            sys.path.append(str(folder))  # last, so that no file there can replace a library's module
        importlib.invalidate_caches()
        first = importlib.util.find_spec(parts[0])
        if first is None or folder.resolve() not in Path(str(first.origin)).resolve().parents:
            raise UserError(f"{name}._target_={target!r}: a module {parts[0]} already exists; give yours another name")
        try:
            module = importlib.import_module(module_name)
        except Exception as error:  # a user's module may raise anything
            raise UserError(
                f"{name}._target_={target!r}: {file}: {type(error).__name__}: {' '.join(str(error).split())}"
            ) from error
        return module
    return None


def targets(base: type[T]) -> dict[str, type[T]]:
    """The classes of this package that `_target_` may name: the subclasses of `base` in its module, or in its folder."""
    home = importlib.import_module(base.__module__)
    files = pkgutil.iter_modules(home.__path__) if hasattr(home, "__path__") else ()
    modules = [importlib.import_module(f"{home.__name__}.{file.name}") for file in files] or [home]
    return {
        f"{module.__name__}.{cls.__name__}": cls
        for module in modules
        for cls in vars(module).values()
        if inspect.isclass(cls)
        and issubclass(cls, base)
        and cls.__module__ == module.__name__
        and not inspect.isabstract(cls)
    }


ALTERNATIVE = re.compile(r"(literal|constrained-|function-|list|int|float|str)\b.*")
"""How Pydantic names the alternatives of a type, behind the name of the field."""


def _lines(error: ValidationError, cls: type[Any], prefix: str) -> list[str]:
    lines: list[str] = []
    told: set[str] = set()  # the reason of one alternative is enough
    for e in error.errors():
        parts = [part for part in map(str, e["loc"]) if not ALTERNATIVE.fullmatch(part)]
        key = prefix + ".".join(part if part.isprintable() else repr(part) for part in parts)  # files may hold any key
        if e["type"] == "unexpected_keyword_argument":
            allowed = ", ".join(f.name for f in fields(cls)) or "none"
            lines.append(f"{key} is not a key of {prefix.rstrip('.') or 'the config'}: allowed are {allowed}")
        elif e["type"] == "missing":
            lines.append(f"{key} is required: give it as {key}=...")
        elif e["type"] == "value_error":
            told.add(key)
            where = f"{key.rstrip('.')}: " if key else ""
            lines.append(f"{where}{e['msg'].removeprefix('Value error, ')}")
        elif e["type"] == "list_type" and isinstance(e["input"], str | int | float):
            given = str(e["input"])
            example = f", for example {key}=[{given}]" if given.isprintable() else ""
            lines.append(f"{key}={e['input']!r}: give a list{example}")
        elif key not in told:
            line, message = f"{key}={e['input']!r}: ", f"{e['msg'][0].lower()}{e['msg'][1:]}"
            if lines and lines[-1].startswith(line):  # of another alternative of the same type
                lines[-1] += f", or {message.removeprefix('input ')}"
            else:
                lines.append(line + message)
    return lines
