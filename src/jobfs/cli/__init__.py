"""The command line: one module a command, and ``app``, which composes them."""

import sys

# httpx also loads its own command line where it finds rich and click: a third of its time, and nothing that we use.
# This is how Python says that a module is not there, with which httpx is content. Programs that use jobfs as a library
# are left as they are.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # documented, but not in the type of the table
