"""The command ``jobfs``: puts the commands together, and turns failures into messages and exit codes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from jobfs import __version__
from jobfs.cli import (
    cat,
    chmod,
    conflicts,
    daemon,
    demo,
    find,
    fsck,
    get,
    jobs,
    ls,
    mkdir,
    mount,
    mv,
    outputs,
    pull,
    push,
    put,
    refresh,
    resolve,
    rm,
    serve,
    status,
    sync,
    tree,
    umount,
)
from jobfs.cli.failures import EXIT_CODES, of_bug, of_local_file, show
from jobfs.cli.settings import Chosen
from jobfs.cli.terminal import say
from jobfs.errors import JobfsError

_VALUED = ("--url", "--api-key-file", "--profile")
_FLAGS = ("--debug",)
_ABOUT = "The workspace of a remote expert job as an ordinary folder."
_EPILOG = "\n\n".join(
    [
        "The general options may stand anywhere. Settings: option, then environment (JOBFS_URL, JOBFS_API_KEY, "
        "PERSTACK_API_KEY, JOBFS_PROFILE), then the profile in config.toml.",
        "Exit codes: " + "; ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items()) + ".",
        "Example: jobfs mount abc123 ~/job",
    ]
)


class Commands(TyperGroup):
    """The group of all commands, which answers for their failures."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; show a failure of ours and exit with its code."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # whoever read our output has seen enough: no message
        except JobfsError as error:
            failure = error
        except OSError as error:
            failure = of_local_file(error)
            failure.__cause__ = error
        show(failure, is_debug=isinstance(ctx.obj, Chosen) and ctx.obj.is_debug)
        raise typer.Exit(failure.exit_code)


app = typer.Typer(
    name="jobfs",
    cls=Commands,
    help=_ABOUT,
    epilog=_EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        say(f"jobfs {__version__}")
        raise typer.Exit


@app.callback()
def general(
    context: typer.Context,
    url: Annotated[str | None, typer.Option(help="The server. Also JOBFS_URL.", metavar="URL")] = None,
    api_key_file: Annotated[
        Path | None, typer.Option(help="A file that holds the API key. Also JOBFS_API_KEY holds a key itself.")
    ] = None,
    profile: Annotated[str | None, typer.Option(help="A profile of config.toml. Also JOBFS_PROFILE.")] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and raw answers.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """The workspace of a remote expert job as an ordinary folder."""
    context.obj = Chosen(url, api_key_file, profile, debug)


for _module in (mount, umount, status, refresh, push, pull, outputs, conflicts, resolve, sync):
    _module.register(app)
app.add_typer(jobs.app, name="jobs")
for _module in (ls, tree, cat, get, put, rm, mv, mkdir, chmod, find, serve, demo, fsck, daemon):
    _module.register(app)


def hoisted(words: Sequence[str]) -> list[str]:
    """Return the arguments with the general options in front, where the parser wants them."""
    front: list[str] = []
    rest: list[str] = []
    source = iter(words)
    for word in source:
        if word == "--":
            rest += [word, *source]
        elif word in _VALUED:
            front += [word, *([value] if (value := next(source, None)) is not None else [])]
        elif word in _FLAGS or word.startswith(tuple(f"{name}=" for name in _VALUED)):
            front.append(word)
        else:
            rest.append(word)
    return front + rest


def main() -> None:
    """Run the command line of this process."""
    words = hoisted(sys.argv[1:])
    try:
        app(args=words, prog_name="jobfs")
    except Exception as error:  # noqa: BLE001  (whatever it is, the user gets a message and not a traceback)
        bug = of_bug(error)
        show(bug, is_debug="--debug" in words)
        sys.exit(bug.exit_code)
