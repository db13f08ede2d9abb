"""jobfs: the workspace of a remote expert job as an ordinary folder.

For scripts: ``Workspace`` is one on the server, ``LocalCopy`` a mount or folder of this machine; ``AsyncWorkspace`` and
``AsyncLocalCopy`` are for those who await. Every failure is one of ``jobfs.errors``. They are imported when they are
first asked for, so that ``import jobfs`` alone costs nothing.
"""

from importlib import import_module

__version__ = "0.1.0"
__all__ = [
    "AsyncLocalCopy",
    "AsyncWorkspace",
    "JobSettings",
    "LocalCopy",
    "Permission",
    "Workspace",
    "__version__",
    "errors",
]

_PLACES = {
    "AsyncLocalCopy": "workspace.copies",
    "AsyncWorkspace": "workspace.awaiting",
    "JobSettings": "api.studio",
    "LocalCopy": "workspace.local",
    "Permission": "model",
    "Workspace": "workspace.blocking",
}
"""Where each public name lives. ``__init__.pyi`` tells type checkers the same."""

_ERRORS = "errors"


def __getattr__(name: str) -> object:
    if name == _ERRORS:
        return import_module(f"{__name__}.{_ERRORS}")
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*(name for name in globals() if name.startswith("__")), *__all__})
