"""``jobfs serve``: a studio server on this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import platformdirs
import typer

from jobfs.errors import SettingsError

DATA_DIRECTORY = "JOBFS_DATA_DIR"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("serve", epilog="Example: jobfs serve --data ./studio --port 8787")(serve)


def serve(
    data: Annotated[Path | None, typer.Option(help="Its data folder. Also JOBFS_DATA_DIR.", metavar="DIR")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8787,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="Needed for a --host that others reach: it speaks plain HTTP.")
    ] = False,
    switch: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SWITCH=VALUE", help="Answer an open question of the API otherwise."),
    ] = None,
    fault: Annotated[
        list[str] | None, typer.Option(metavar="KIND[:...]", help="Make requests fail, for tests.")
    ] = None,
    runner: Annotated[bool, typer.Option(help="Run queued jobs as local commands.")] = True,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "warning",
) -> None:
    """Serve the API on this machine, without an account. The keys are shown at the first start, and only then."""
    try:
        from jobfs.server import faults, switches
        from jobfs.server.serve import run_server
    except ImportError as error:
        raise SettingsError(
            f"the server's libraries are not installed ({error.name})", "install them: pip install 'jobfs[server]'"
        ) from error
    run_server(
        data_dir=data or _default_data(),
        host=host,
        port=port,
        allow_remote=allow_remote,
        switches=switches.parse(switch or ()),
        faults=faults.parse(fault or ()),
        runner=runner,
        log_level=log_level,
    )


def _default_data() -> Path:
    told = os.environ.get(DATA_DIRECTORY)
    return Path(told) if told else Path(platformdirs.user_data_dir("jobfs")) / "server"
