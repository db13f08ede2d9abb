"""The manual: one page for ``man``, and one for reading on the web, both made from the commands (``parser``).

``scripts/manual`` writes them into ``docs/``; a test says whether they are what this would write now.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated

import typer

from jobfs import __version__
from jobfs.cli.failures import EXIT_CODES
from jobfs.cli.notify import NOTIFICATIONS
from jobfs.cli.parser import Command, Parameter, commands, general_options
from jobfs.cli.terminal import say
from jobfs.workspace.states import STATE_DIRECTORY
from jobfs.workspace.variables import API_KEY, CONFIG_DIRECTORY, PROFILE, SECOND_API_KEY, SYSTEM_KEY, URL

ABOUT = "the workspace of a remote expert job as an ordinary folder"

ENVIRONMENT = {
    URL: "the server; --url says another one",
    API_KEY: "the API key; --api-key-file says another one",
    SECOND_API_KEY: f"the API key, where {API_KEY} is not set",
    SYSTEM_KEY: "the system key, for the few calls that need it",
    PROFILE: "the profile of config.toml; --profile says another one",
    CONFIG_DIRECTORY: "the folder of config.toml and of the keys that login has kept",
    STATE_DIRECTORY: "the folder of everything that jobfs keeps: caches, unsent changes, logs",
    "JOBFS_DATA_DIR": "the folder of jobfs serve; --data says another one",
    NOTIFICATIONS: "off: the desktop is not told of conflicts",
    "HTTPS_PROXY": "the proxy, as for other programs",
}
"""Every variable that users may set."""

FILES = {
    "~/.config/jobfs/config.toml": "profiles: server, key, limits",
    "~/.config/jobfs/keys/": "the keys that login has kept, where there is no keyring",
    "~/.local/state/jobfs/workspaces/": "one folder for each mount and synchronised folder: state, contents, log",
    "DIR/.jobfs/": "in a mount: status.txt; .json: status, pending, held, transfers, problems, conflicts",
    "DIR/.jobfsignore": "names that stay on this machine, written as in .gitignore",
}
"""The files that users may meet; on Linux, elsewhere the platform's own places."""


class Form(StrEnum):
    """What to print."""

    MAN = "man"
    MARKDOWN = "markdown"


def register(app: typer.Typer) -> None:
    """Add the command; it is for those who build jobfs."""

    def manual(form: Annotated[Form, typer.Argument(help="The form.")]) -> None:
        """Print the manual."""
        say((man_page if form is Form.MAN else markdown_page)(app).rstrip("\n"))

    app.command("manual", hidden=True)(manual)


def _names(option: Parameter) -> str:
    return ", ".join(f"{name} {option.value}" if option.value else name for name in option.names)


def _details(parameter: Parameter) -> str:
    """Return the help of a parameter with its default."""
    return f"{parameter.help} [{parameter.default}]" if parameter.default else parameter.help


# -- markdown


def markdown_page(app: typer.Typer) -> str:
    """Return the page for the web."""
    return "\n".join(_markdown(app)) + "\n"


def _markdown(app: typer.Typer) -> Iterator[str]:
    yield from ("# The commands", "", f"jobfs {__version__}: {ABOUT}. This page is made by `scripts/manual`.", "")
    every = list(commands(app))
    yield from _table(("Command", ""), [(f"[{one.name}](#{_anchor(one)})", one.summary) for one in every])
    yield from ("## General options", "", "They may stand anywhere.", "")
    yield from _table(("Option", ""), [(f"`{_names(one)}`", _details(one)) for one in general_options(app)])
    for one in every:
        yield from _markdown_command(one)
    yield from ("## Exit codes", "")
    yield from _table(("Code", "Meaning"), [(str(code), meaning) for code, meaning in EXIT_CODES.items()])
    yield from ("## Environment", "")
    yield from _table(("Variable", ""), [(f"`{name}`", meaning) for name, meaning in ENVIRONMENT.items()])
    yield from ("## Files", "")
    yield from _table(("File", ""), [(f"`{name}`", meaning) for name, meaning in FILES.items()], is_last=True)


def _anchor(command: Command) -> str:
    return f"jobfs-{command.name.replace(' ', '-')}"


def _markdown_command(command: Command) -> Iterator[str]:
    yield from (f"## jobfs {command.name}", "", "```text", command.usage, "```", "", command.text, "")
    if command.arguments:
        rows = [(f"`{one.names[0]}`", one.help) for one in command.arguments]
        yield from _table(("Argument", ""), rows)
    if command.options:
        yield from _table(("Option", ""), [(f"`{_names(one)}`", _details(one)) for one in command.options])
    yield from ("```sh", command.example, "```", "")


def _table(heads: tuple[str, str], rows: list[tuple[str, str]], *, is_last: bool = False) -> Iterator[str]:
    yield f"| {heads[0]} | {heads[1]} |".replace("|  |", "| |")
    yield "| :-- | :-- |"
    for cells in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
    if not is_last:
        yield ""


# -- man


def man_page(app: typer.Typer) -> str:
    """Return the page for man, in the macros of man(7)."""
    return "\n".join(_man(app)) + "\n"


def _man(app: typer.Typer) -> Iterator[str]:
    yield f'.TH JOBFS 1 "" "jobfs {__version__}" "User Commands"'
    yield from (".SH NAME", _roff(f"jobfs - {ABOUT}"))
    yield from (".SH SYNOPSIS", ".B jobfs", "[\\fIOPTIONS\\fR] \\fICOMMAND\\fR [\\fIARGUMENTS\\fR]")
    yield ".SH DESCRIPTION"
    yield from _paragraphs(
        "jobfs shows the workspace of a remote expert job as an ordinary folder: edit its files with the programs you "
        "already use, run the job, and find its outputs in the same folder.\n\n"
        "Settings are taken from options, then from the environment, then from the profile in config.toml."
    )
    yield ".SH OPTIONS"
    for option in general_options(app):
        yield from _item(_names(option), _details(option))
    yield ".SH COMMANDS"
    for command in commands(app):
        yield from _man_command(command)
    for title, rows in (
        ("EXIT STATUS", {str(code): meaning for code, meaning in EXIT_CODES.items()}),
        ("ENVIRONMENT", ENVIRONMENT),
        ("FILES", FILES),
    ):
        yield f".SH {title}"
        for name, meaning in rows.items():
            yield from _item(name, meaning)


def _man_command(command: Command) -> Iterator[str]:
    yield f'.SS "{_roff(command.usage)}"'
    yield from _paragraphs(command.text)
    for parameter in command.arguments:
        yield from _item(parameter.names[0], parameter.help)
    for option in command.options:
        yield from _item(_names(option), _details(option))
    yield from (".PP", "Example:", ".PP", ".in +4n", ".nf", _line(command.example), ".fi", ".in")


def _item(name: str, text: str) -> Iterator[str]:
    yield from (".TP", f".B {_roff(name)}", _line(text))


def _paragraphs(text: str) -> Iterator[str]:
    for number, paragraph in enumerate(text.split("\n\n")):
        if number:
            yield ".PP"
        yield _line(" ".join(paragraph.split()))


def _line(text: str) -> str:
    """Return a line of text; one that begins with a dot or a quote would be a request to roff."""
    escaped = _roff(text)
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


def _roff(text: str) -> str:
    return (
        text.replace("\\", "\\e").replace("-", "\\-").replace("~", "\\(ti").replace('"', "\\(dq").replace("'", "\\(aq")
    )
