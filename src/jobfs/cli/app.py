"""The command ``jobfs``: puts the commands together, and turns failures into messages and exit codes."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from jobfs import __version__
from jobfs.cli.failures import EXIT_CODES, failure_of, of_bug, of_usage, show
from jobfs.cli.loading import load
from jobfs.cli.terminal import say
from jobfs.cli.whole import Whole
from jobfs.cli.words import chosen_in, hoisted
from jobfs.errors import Interrupted, JobfsError, SettingsError
from jobfs.workspace.profiles import Pacing
from jobfs.workspace.settings import Chosen

COMMANDS = {
    **{name: name for name in ("mount", "umount", "status", "logs", "doctor", "refresh", "hold", "diff")},
    **{name: name for name in ("push", "revert", "history", "restore", "undelete", "pull", "outputs")},
    **{name: name for name in ("conflicts", "resolve", "sync", "forget", "jobs", "runs")},
    "service": "background",
    **{name: name for name in ("ls", "tree", "du", "cat", "get", "put", "rm", "mv", "mkdir", "chmod", "find", "serve")},
    "demo": "demo",
    "fsck": "fsck",
    "report": "bundle",
    "login": "login",
    "logout": "login",
    "completion": "completion",
    "completing": "completing",
    "manual": "manual",
}
"""Every command, in the order of the help, and the module of this room whose ``register`` adds it."""

_TELL_OF_ALL = ("completion", "manual")
_VERSION = "--version"
_ABOUT = "The workspace of a remote expert job as an ordinary folder."
_EPILOG = "\n\n".join(
    [
        "The general options may stand anywhere. Settings: option, then environment (JOBFS_URL, JOBFS_API_KEY, "
        "PERSTACK_API_KEY, JOBFS_PROFILE), then the profile in config.toml.",
        "A job is written by its id; a place in its workspace JOB:/PATH; the files of a finished run run:RUN.",
        "Exit codes: " + "; ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items()) + ".",
        "Example: jobfs mount abc123 ~/job",
    ]
)


_UsageError: Any = typer.BadParameter.__base__
"""What the parser raises about arguments; the library shows its kinds, and not what they have in common."""


class Commands(Whole):
    """The group of all commands, which answers for their failures."""

    def main(self, *args: Any, **more: Any) -> Any:
        """Parse and run; arguments that make no sense are told as every other failure is."""
        is_alone = more.pop("standalone_mode", True)
        more["standalone_mode"] = False
        try:
            result = super().main(*args, **more)
        except _UsageError as error:
            if type(error).__name__ == "NoArgsIsHelpError":
                error.show()
                sys.exit(SettingsError.exit_code)
            failure = of_usage(error)
        except typer.Abort:
            failure = Interrupted("stopped")
        else:
            if is_alone:
                sys.exit(result if isinstance(result, int) else 0)
            return result
        show(failure, is_debug=False)
        sys.exit(failure.exit_code)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; show a failure of ours and exit with its code."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # whoever read our output has seen enough: no message
        except (JobfsError, OSError) as error:
            failure = failure_of(error)
        show(failure, is_debug=isinstance(ctx.obj, Chosen) and ctx.obj.is_debug)
        raise typer.Exit(failure.exit_code)


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        say(f"jobfs {__version__}")
        raise typer.Exit


def general(
    context: typer.Context,
    url: Annotated[str | None, typer.Option(help="The server. Also JOBFS_URL.", metavar="URL")] = None,
    api_key_file: Annotated[
        Path | None, typer.Option(help="A file that holds the API key. Also JOBFS_API_KEY holds a key itself.")
    ] = None,
    profile: Annotated[str | None, typer.Option(help="A profile of config.toml. Also JOBFS_PROFILE.")] = None,
    limit_up: Annotated[
        str | None, typer.Option(help="Send at most so many bytes a second, such as 500K.", metavar="SIZE")
    ] = None,
    limit_down: Annotated[str | None, typer.Option(help="Receive at most so many.", metavar="SIZE")] = None,
    connections: Annotated[int | None, typer.Option(min=1, help="Requests at once, at most.", metavar="N")] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and raw answers.")] = False,
    version: Annotated[
        bool, typer.Option(_VERSION, help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """The workspace of a remote expert job as an ordinary folder."""
    context.obj = Chosen(url, api_key_file, profile, debug, Pacing.of_words(limit_up, limit_down, connections))


def compose(names: Iterable[str] = COMMANDS) -> typer.Typer:
    """Return the parser of some commands. Only their modules are loaded: loading all takes longer than most commands.

    :param names: keys of ``COMMANDS``; by default all of them.
    """
    app = typer.Typer(
        name="jobfs",
        cls=Commands,
        help=_ABOUT,
        epilog=_EPILOG,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(general)
    for module in dict.fromkeys(COMMANDS[name] for name in names):
        load(module).register(app)
    return app


def needed(words: Sequence[str]) -> Iterable[str]:
    """Return the commands that a command line needs: the one it names, or all of them.

    :param words: with the general options in front (``hoisted``).
    """
    first = chosen_in(words)
    if first == _VERSION:
        return ()
    return (first,) if first in COMMANDS and first not in _TELL_OF_ALL else COMMANDS


def run_words(arguments: Sequence[str]) -> int:
    """Run a command line; return its exit code.

    :param arguments: without the program's name.
    """
    words = hoisted(arguments)
    try:
        compose(needed(words))(args=words, prog_name="jobfs")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except Exception as error:  # noqa: BLE001  (whatever it is, the user gets a message and not a traceback)
        bug = of_bug(error)
        show(bug, is_debug="--debug" in words)
        return bug.exit_code
    return 0
