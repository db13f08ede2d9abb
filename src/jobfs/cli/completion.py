"""``jobfs completion``: what a shell needs to complete commands, options and their values.

The scripts hold every word of ours themselves, so that completing these asks no Python; they are made from the commands
(``parser``). Jobs, mounts and folders are asked for where an argument is one: ``completing``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated

import typer

from jobfs.cli.parser import Command, Parameter, commands, general_options
from jobfs.cli.terminal import say


class Shell(StrEnum):
    """The shells that can be served."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


_EXAMPLE = "Example: jobfs completion bash > ~/.local/share/bash-completion/completions/jobfs"


def register(app: typer.Typer) -> None:
    """Add the command."""

    def completion(
        shell: Annotated[Shell, typer.Argument(metavar="bash|zsh|fish", help="The shell to serve.")],
    ) -> None:
        """Print a completion script.

        bash: into ~/.local/share/bash-completion/completions/jobfs; zsh: into a file _jobfs in a directory of fpath, or
        by 'source <(jobfs completion zsh)' in ~/.zshrc; fish: into ~/.config/fish/completions/jobfs.fish. It completes
        commands, options and their values, and asks for jobs, runs, mounts and folders: the server once a minute at
        most, and for two seconds.
        """
        say(script(app, shell).rstrip("\n"))

    app.command("completion", epilog=_EXAMPLE)(completion)


def script(app: typer.Typer, shell: Shell) -> str:
    """Return the completion script for a shell."""
    every = list(commands(app))
    general = (*general_options(app), Parameter(("-h", "--help"), "Show help."))
    return {Shell.BASH: _bash, Shell.ZSH: _zsh, Shell.FISH: _fish}[shell](every, general)


def _is_asked(command: Command) -> bool:
    """Tell whether an argument of a command is a job or run, or a mount or folder that is there."""
    return any(word in argument.names[0] for argument in command.arguments for word in ("JOB", "RUN", "DIR", "PATH"))


def _quoted(text: str) -> str:
    """Return a text as one word of any of the shells."""
    return "'" + text.replace("'", "'\\''") + "'"


def _groups(every: Iterable[Command]) -> dict[str, list[Command]]:
    """Return the commands by the word before them; those of no group by an empty one."""
    found: dict[str, list[Command]] = defaultdict(list)
    for command in every:
        group, _, _ = command.name.rpartition(" ")
        found[group].append(command)
    return found


def _names(parameters: Iterable[Parameter]) -> str:
    return " ".join(name for parameter in parameters for name in parameter.names)


def _bash(every: list[Command], general: tuple[Parameter, ...]) -> str:
    groups = _groups(every)
    words = [command.name for command in groups[""]] + [group for group in groups if group]
    lines = [
        "# bash completion for jobfs, made by: jobfs completion bash",
        "_jobfs() {",
        "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}",
        '    local command="" at words="" files="" ask="" found',
        "    for ((at = 1; at < COMP_CWORD; at++)); do",
        '        case ${COMP_WORDS[at]} in -*) ;; *) command="$command${command:+ }${COMP_WORDS[at]}" ;; esac',
        "    done",
        "    case $command in",
        f'        "") words="{" ".join(words)}" ;;',
    ]
    for group, members in groups.items():
        if group:
            inner = " ".join(command.name.split()[1] for command in members)
            lines.append(f'        {_quoted(group)}) words="{inner}" ;;')
    for command in every:
        pattern = f"{_quoted(command.name)}|{_quoted(command.name + ' ')}*"
        choices = " ".join(choice for argument in command.arguments for choice in argument.choices)
        files = "yes" if any(argument.is_path for argument in command.arguments) else ""
        told = " ".join(part for part in (_names(command.options), choices) if part)
        ask = "yes" if _is_asked(command) else ""
        lines.append(f'        {pattern}) words="{told}" files={files or _quoted("")} ask={ask or _quoted("")} ;;')
    lines += ["    esac", "    case $before in"]
    valued = {name: one for command in every for one in command.options for name in one.names}
    valued |= {name: one for one in general for name in one.names}
    for name, one in sorted(valued.items()):
        if one.choices:
            lines.append(f'        {name}) words="{" ".join(one.choices)}" files="" ask="" ;;')
        elif one.is_path:
            lines.append(f'        {name}) words="" files=yes ask="" ;;')
    lines += [
        "    esac",
        f'    case $word in -*) words="$words {_names(general)}" ask="" ;; esac',
        '    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")',
        '    if [ -n "$files" ]; then compopt -o filenames; mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY '
        '< <(compgen -f -- "$word"); fi',
        '    if [ -n "$ask" ]; then',
        # Not by compgen -W, which would expand what a server has named.
        '        while IFS= read -r found; do [[ $found != "$word"* ]] || COMPREPLY+=("$found"); done < <(',
        '            "${COMP_WORDS[0]}" completing "${COMP_WORDS[@]:1:COMP_CWORD-1}" 2>/dev/null | cut -f1)',
        "    fi",
        "}",
        "complete -F _jobfs jobfs",
    ]
    return "\n".join(lines) + "\n"


def _zsh(every: list[Command], general: tuple[Parameter, ...]) -> str:
    groups = _groups(every)
    lines = ["#compdef jobfs", "# zsh completion for jobfs, made by: jobfs completion zsh", "_jobfs() {"]
    lines += ["  local -a names typed=($words[1,CURRENT-1])", "  local command=$words[2]"]
    lines += ["  if (( CURRENT == 2 )); then"]
    lines += [f"    if [[ $PREFIX == -* ]]; then _arguments {' '.join(map(_zsh_option, general))}; return; fi"]
    lines += ["    names=("]
    lines += [f"      {_quoted(f'{one.name}:{_plain(one.summary)}')}" for one in groups[""]]
    inner = {group: ", ".join(one.name.split()[1] for one in members) for group, members in groups.items() if group}
    lines += [f"      {_quoted(f'{group}:{names}')}" for group, names in inner.items()]
    lines += ["    )", "    _describe command names", "    return", "  fi"]
    for group, members in groups.items():
        if group:
            lines += [f"  if [[ $command == {group} ]]; then", "    if (( CURRENT == 3 )); then", "      names=("]
            lines += [f"        {_quoted(f'{one.name.split()[1]}:{_plain(one.summary)}')}" for one in members]
            lines += ["      )", "      _describe command names", "      return", "    fi"]
            lines += ['    command="$command $words[3]"', "    shift words", "    (( CURRENT-- ))", "  fi"]
    lines += ["  shift words", "  (( CURRENT-- ))", "  case $command in"]
    for one in every:
        specs = [_zsh_option(option) for option in (*one.options, *general)]
        specs += [_quoted(f"*:{last.names[0]}:{_zsh_argument(one)}") for last in one.arguments[-1:]]
        lines.append(f"    {_quoted(one.name)}) _arguments {' '.join(specs)} ;;")
    # Out of fpath the file is the function's first call; read by source it only has to say whose function it is.
    lines += ["  esac", "}", *_ZSH_ASKS, 'if [[ $funcstack[1] == _jobfs ]]; then _jobfs "$@"; else']
    lines += ["  (( $+functions[compdef] )) || { autoload -Uz compinit; compinit }", "  compdef _jobfs jobfs", "fi"]
    return "\n".join(lines) + "\n"


_ZSH_ASKS = (
    "_jobfs_asked() {",
    "  local -a found",
    '  found=(${(f)"$($typed[1] completing ${(@)typed[2,-1]} 2>/dev/null)"})',
    "  found=(${${found//:/\\\\:}//$'\\t'/:})",
    "  _describe 'job, mount or folder' found",
    "}",
    "_jobfs_asked_or_files() { _jobfs_asked; _files }",
)
"""What the script asks for: each word with what it is, which zsh wants parted by a colon."""


def _zsh_argument(command: Command) -> str:
    """Return what completes the arguments of a command."""
    if not _is_asked(command):
        return _zsh_values(command.arguments[-1])
    return "_jobfs_asked_or_files" if any(one.is_path for one in command.arguments) else "_jobfs_asked"


def _plain(text: str) -> str:
    return text.replace(":", "\\:").replace("[", "(").replace("]", ")")


def _zsh_option(option: Parameter) -> str:
    value = f":{option.value}:{_zsh_values(option)}" if option.value else ""
    return " ".join(_quoted(f"*{name}[{_plain(option.help)}]{_plain_value(value)}") for name in option.names)


def _plain_value(value: str) -> str:
    return value.replace("[", "").replace("]", "")


def _zsh_values(one: Parameter) -> str:
    if one.choices:
        return f"({' '.join(one.choices)})"
    return "_files" if one.is_path else ""


_FISH_ASKS = (
    "function __jobfs_asked",
    "    set -l typed (commandline -opc)",
    "    command $typed[1] completing $typed[2..-1] 2>/dev/null",
    "end",
)


def _fish(every: list[Command], general: tuple[Parameter, ...]) -> str:
    groups = _groups(every)
    lines = ["# fish completion for jobfs, made by: jobfs completion fish", *_FISH_ASKS]
    tops = [*(one.name for one in groups[""]), *(group for group in groups if group)]
    none_yet = f"not __fish_seen_subcommand_from {' '.join(tops)}"
    for one in groups[""]:
        lines.append(f"complete -c jobfs -n {_quoted(none_yet)} -f -a {one.name} -d {_fish_quoted(one.summary)}")
    for group, members in groups.items():
        if group:
            lines.append(f"complete -c jobfs -n {_quoted(none_yet)} -f -a {group}")
            inner = " ".join(one.name.split()[1] for one in members)
            unset = f"__fish_seen_subcommand_from {group}; and not __fish_seen_subcommand_from {inner}"
            for one in members:
                name = one.name.split()[1]
                lines.append(f"complete -c jobfs -n {_quoted(unset)} -f -a {name} -d {_fish_quoted(one.summary)}")
    for one in every:
        seen = "; and ".join(f"__fish_seen_subcommand_from {word}" for word in one.name.split())
        lines += [_fish_option(option, f"-n {_quoted(seen)} ") for option in one.options]
        choices = " ".join(choice for argument in one.arguments for choice in argument.choices)
        if choices:
            lines.append(f"complete -c jobfs -n {_quoted(seen)} -f -a {_quoted(choices)}")
        if _is_asked(one):
            files = "" if any(argument.is_path for argument in one.arguments) else " -f"
            lines.append(f"complete -c jobfs -n {_quoted(seen)}{files} -k -a '(__jobfs_asked)'")
    lines += [_fish_option(option, "") for option in general]
    return "\n".join(lines) + "\n"


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _fish_option(option: Parameter, condition: str) -> str:
    names = " ".join(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names)
    value = " -r" if option.value else ""
    if option.choices:
        value = f" -x -a {_quoted(' '.join(option.choices))}"
    elif option.is_path:
        value = " -r -F"
    return f"complete -c jobfs {condition}{names}{value} -d {_fish_quoted(option.help)}"
