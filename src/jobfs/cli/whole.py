"""A group of commands whose help says of each what it is for as a whole sentence."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

_LONGEST = 1000
"""No command's first sentence is longer."""


class Whole(TyperGroup):
    """The library cuts the sentences at the width of a line."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write what each command is for, over as many lines as that takes."""
        names = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, one.get_short_help_str(_LONGEST)) for name, one in names if one is not None and not one.hidden]
        with formatter.section("Commands"):
            formatter.write_dl(rows)
