"""The commands as values: what each is for, what it takes, an example. Manual and completions are made from it.

Read from the very functions that the parser is made from, so that all of them say the same.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import typer
from typer.models import ArgumentInfo, OptionInfo

_WORDS = {int: "N", float: "SECONDS", str: "TEXT", Path: "PATH"}
_EXAMPLE = "Example: "


@dataclass(frozen=True, slots=True)
class Parameter:
    """An option or an argument.

    :param names: of an option, with its dashes, the negative one last; of an argument its place in the usage.
    :param value: what stands for its value; empty for a switch.
    :param choices: the words that it takes, where only these.
    :param is_path: whether it names a file or directory of this machine.
    :param default: as the user would write it; empty where there is none to tell.
    """

    names: tuple[str, ...]
    help: str
    value: str = ""
    choices: tuple[str, ...] = ()
    is_path: bool = False
    is_repeated: bool = False
    default: str = ""


@dataclass(frozen=True, slots=True)
class Command:
    """A command.

    :param name: one word, or two for a command of a group.
    :param summary: its first sentence. :param text: the whole of its description, paragraphs parted by an empty line.
    """

    name: str
    summary: str
    text: str
    example: str
    arguments: tuple[Parameter, ...]
    options: tuple[Parameter, ...]

    @property
    def usage(self) -> str:
        """How it is called."""
        words = ["jobfs", self.name, *(["[OPTIONS]"] if self.options else [])]
        return " ".join([*words, *(argument.names[0] for argument in self.arguments)])


def commands(app: typer.Typer, group: str = "") -> Iterator[Command]:
    """Yield every command that users see, in the order of the help."""
    for info in app.registered_commands:
        if info.callback is not None and not info.hidden:
            yield _command(f"{group}{info.name or info.callback.__name__}", info.callback, info.epilog or "")
    for group_info in app.registered_groups:
        if group_info.typer_instance is not None and group_info.name:
            yield from commands(group_info.typer_instance, f"{group_info.name} ")


def general_options(app: typer.Typer) -> tuple[Parameter, ...]:
    """Return the options that may stand anywhere."""
    callback = app.registered_callback.callback if app.registered_callback is not None else None
    return () if callback is None else options_of(callback)


def options_of(function: Callable[..., Any]) -> tuple[Parameter, ...]:
    """Return the options of a command's function."""
    return tuple(found for is_option, found in _parameters(function) if is_option)


def _command(name: str, function: Callable[..., Any], epilog: str) -> Command:
    text = inspect.getdoc(function) or ""
    parameters = list(_parameters(function))
    return Command(
        name,
        text.split("\n\n")[0].replace("\n", " "),
        text,
        epilog.removeprefix(_EXAMPLE),
        tuple(found for is_option, found in parameters if not is_option),
        tuple(found for is_option, found in parameters if is_option),
    )


def _parameters(function: Callable[..., Any]) -> Iterator[tuple[bool, Parameter]]:
    """Yield each parameter, and whether it is an option."""
    hints = typing.get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        hint, info = hints[name], None
        if typing.get_origin(hint) is typing.Annotated:
            hint, *more = typing.get_args(hint)
            info = next((one for one in more if isinstance(one, OptionInfo | ArgumentInfo)), None)
        if isinstance(info, ArgumentInfo):
            is_needed = parameter.default is inspect.Parameter.empty
            yield False, _argument(name, hint, info, is_needed=is_needed)
        elif isinstance(info, OptionInfo) and not info.hidden:
            yield True, _option(name, hint, info, parameter.default)


def _argument(name: str, hint: Any, info: ArgumentInfo, *, is_needed: bool) -> Parameter:
    kind, is_repeated = _kind(hint)
    place = info.metavar or name.upper()
    place = place if is_needed else f"[{place}]"
    return Parameter((place,), info.help or "", is_path=kind is Path, is_repeated=is_repeated, choices=_choices(kind))


def _option(name: str, hint: Any, info: OptionInfo, default: Any) -> Parameter:
    kind, is_repeated = _kind(hint)
    # Within Annotated the first word given to Option, wherever it keeps it, is a name and no default.
    told = [part for one in (info.default, *(info.param_decls or ())) if _is_name(one) for part in str(one).split("/")]
    plain = f"--{name.replace('_', '-')}"
    names = told or ([plain, f"--no-{plain[2:]}"] if kind is bool else [plain])
    choices = _choices(kind)
    value = "" if kind is bool else info.metavar or "|".join(choices) or _WORDS.get(kind, "TEXT")
    return Parameter(
        tuple(names), info.help or "", value, choices, kind is Path, is_repeated, _default(default, names, kind)
    )


def _is_name(word: Any) -> bool:
    return isinstance(word, str) and word.startswith("-")


def _kind(hint: Any) -> tuple[type, bool]:
    """Return the type of a parameter without None, of a list that of its elements, and whether it is a list."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        (hint,) = (one for one in typing.get_args(hint) if one is not types.NoneType)
    if typing.get_origin(hint) is list:
        return typing.get_args(hint)[0], True
    return hint, False


def _choices(kind: type) -> tuple[str, ...]:
    return tuple(str(one.value) for one in kind) if issubclass(kind, Enum) else ()


def _default(value: Any, names: list[str], kind: type) -> str:
    if value is None or value is inspect.Parameter.empty or value is False:
        return ""
    if kind is bool:
        return names[0] if len(names) > 1 else ""
    if isinstance(value, Enum):
        return str(value.value)
    return f"{value:g}" if isinstance(value, float) else str(value)
