"""``jobfs login`` and ``jobfs logout``: keep the key of a server, so that no command has to be told it again."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from jobfs.api.address import DEFAULT_BASE, parse_base
from jobfs.cli.choices import chosen
from jobfs.cli.context import open_studio
from jobfs.cli.remote import run
from jobfs.cli.terminal import progress, say, shown, tell
from jobfs.errors import SettingsError, Unauthenticated
from jobfs.workspace.keystore import (
    NoKeyring,
    forget_file,
    forget_in_keyring,
    keep_in_file,
    keep_in_keyring,
)
from jobfs.workspace.profiles import CONFIG_NAME, Profile, read_config, read_profile
from jobfs.workspace.settings import Chosen, Settings, config_directory
from jobfs.workspace.variables import PROFILE, URL

_FIRST_NAME = "default"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("login", epilog="Example: jobfs login --url https://studio.example --profile work < key.txt")(login)
    app.command("logout", epilog="Example: jobfs logout --profile work")(logout)


def login(
    context: typer.Context,
    keyring: Annotated[bool, typer.Option(help="Use the system's keyring where there is one, else a file.")] = True,
    check: Annotated[bool, typer.Option(help="Ask the server first whether it takes the key.")] = True,
) -> None:
    """Keep the key of a server, under a profile: that of --profile, or the default one.

    The key is asked for, or read from the standard input. It goes into the keyring of the system where the library
    keyring finds one, else into a file that only you can read.
    """
    options = chosen(context)
    directory = config_directory(os.environ)
    profile, is_new = _profile_for(options, directory)
    url = options.url or os.environ.get(URL) or profile.url
    _check_server(profile, url, is_new=is_new)
    parse_base(url or DEFAULT_BASE)
    key = _ask_key(url or DEFAULT_BASE)
    if check:
        with progress("asking the server"):
            run(_try(Settings((url or DEFAULT_BASE).rstrip("/"), key)))
    how, where = _keep(directory, profile, url, key, uses_keyring=keyring)
    if is_new:
        _write_profile(directory, profile.name, url, how)
    say(shown(f"logged in to {url or DEFAULT_BASE} as profile {profile.name!r}; the key is in {where}"))


def logout(context: typer.Context) -> None:
    """Forget the key that login has kept. The profile stays; its key has to be given again."""
    options = chosen(context)
    directory = config_directory(os.environ)
    profile = read_profile(directory, options.profile or os.environ.get(PROFILE))
    if not profile.name:
        raise SettingsError("there is no profile to log out of", "name one with --profile")
    if profile.has_keyring:
        is_done = forget_in_keyring(profile.url or DEFAULT_BASE)
    elif profile.api_key_file is None:
        raise SettingsError(f"profile {profile.name!r} has no key", "nothing is to be done")
    else:
        is_done = forget_file(directory, profile.api_key_file)
        if not is_done and profile.api_key_file.exists():
            remedy = f"delete it yourself: {profile.api_key_file}"
            raise SettingsError(f"the key of profile {profile.name!r} is in a file of yours", remedy)
    say(shown(f"logged out of profile {profile.name!r}" + ("" if is_done else "; its key was gone already")))


def _profile_for(options: Chosen, directory: Path) -> tuple[Profile, bool]:
    """Return the profile that the key belongs to, and whether it is new."""
    document: Any = read_config(directory) or {}
    name = options.profile or os.environ.get(PROFILE) or document.get("default") or _FIRST_NAME
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise SettingsError(f"{name!r} is no name for a profile", "use letters, digits, - and _")
    if name in document.get("profiles", {}):
        return read_profile(directory, name), False
    return Profile(name), True


def _check_server(profile: Profile, url: str | None, *, is_new: bool) -> None:
    """Refuse to give a profile the key of another server."""
    if is_new or (url or "").rstrip("/") == (profile.url or "").rstrip("/"):
        return
    remedy = f"choose another name: jobfs login --profile NAME --url {url}"
    raise SettingsError(f"profile {profile.name!r} is for {profile.url or DEFAULT_BASE}, not for {url}", remedy)


def _ask_key(server: str) -> str:
    if sys.stdin.isatty():
        key = typer.prompt(f"API key for {server}", hide_input=True, err=True)
    else:
        key = next((line.strip() for line in sys.stdin if line.strip()), "")
    if not key:
        raise SettingsError("no key was given", "type it, or pass it through the standard input: jobfs login < FILE")
    return str(key).strip()


async def _try(found: Settings) -> None:
    """Use the key once.

    :raises Unauthenticated: the server does not accept it.
    """
    try:
        async with open_studio(found) as studio:
            await studio.list_jobs(take=1)
    except Unauthenticated as error:
        remedy = f"nothing was kept; give the key of {found.url} again, whole"
        raise Unauthenticated(error.cause, remedy, status=error.status, reason=error.reason, body=error.body) from error


def _keep(directory: Path, profile: Profile, url: str | None, key: str, *, uses_keyring: bool) -> tuple[str, str]:
    """Keep a key where the profile looks for it, or, where it does not say, in the best place; return the profile's
    line about it, and words for the user."""
    if profile.api_key_file is not None:
        if profile.api_key_file.parent != directory / "keys":
            raise SettingsError(
                f"the key of profile {profile.name!r} is in a file of yours",
                f"write the key into {profile.api_key_file}",
            )
        uses_keyring = False
    if uses_keyring or profile.has_keyring:
        try:
            keep_in_keyring(url or DEFAULT_BASE, key)
            return "keyring = true", "the keyring of the system"
        except NoKeyring as error:
            if profile.has_keyring:
                raise SettingsError(f"the keyring cannot be used: {error}", "log in as another --profile") from None
            tell(f"jobfs: no keyring: {error}")
    path = keep_in_file(directory, profile.name, key)
    return f'api-key-file = "{path.as_posix()}"', str(directory / path)


def _write_profile(directory: Path, name: str, url: str | None, how: str) -> None:
    """Add a profile to ``config.toml``, as text: what the user has written there stays as it is."""
    path = directory / CONFIG_NAME
    document: Any = read_config(directory)
    before = "" if document is None else path.read_text(encoding="utf-8")
    first = "" if document and "default" in document else f'default = "{name}"\n'
    gap = "\n" if before else ""
    lines = [f"\n[profiles.{name}]"]
    if url is not None:
        lines.append(f"url = {_toml_text(url.rstrip('/'))}")
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_suffix(".new")
    temporary.write_text(first + gap * bool(first) + before + "\n".join([*lines, how, ""]), encoding="utf-8")
    temporary.replace(path)


def _toml_text(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
