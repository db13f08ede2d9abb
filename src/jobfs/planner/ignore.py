"""Which names stay local: the built-in list, ``.jobfsignore`` and what the user adds, in gitignore syntax.

Pure, and the only importer of ``pathspec``. Later patterns win over earlier ones, so a user's ``!pattern`` takes a name
out of the built-in list. As in git, nothing below an ignored directory can be taken out again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from pathspec import GitIgnoreSpec

from jobfs.planner.naming import OWN_FOLDER

IGNORE_FILE = ".jobfsignore"
"""The file in the workspace root that holds the user's patterns; itself an ordinary, pushed file."""

BUILT_IN = (
    # Version control: thousands of files that change together and are kept elsewhere.
    ".git",  # a directory, or a file in worktrees and submodules
    ".hg/",
    ".svn/",
    ".bzr/",
    "_darcs/",
    ".jj/",
    # What tools can make again, full of links that the server cannot hold.
    "node_modules/",
    ".venv/",
    "venv/",
    "__pycache__/",
    ".mypy_cache/",
    ".pytest_cache/",
    ".ruff_cache/",
    ".tox/",
    ".nox/",
    ".ipynb_checkpoints/",
    # vim, neovim
    "*.sw[opx]",
    "4913",
    # emacs; its backups are also vim's, nano's and gedit's
    r".\#*",
    r"\#*\#",
    "*~",
    # kate, gedit and other GLib programs, JetBrains
    ".*.kate-swp",
    ".goutputstream-*",
    "*___jb_tmp___",
    "*___jb_old___",
    # LibreOffice: its lock, and the file that it writes before it replaces the document
    ".~lock.*#",
    "lu[0-9]*.tmp",
    # Office
    "~$*",
    "~WRD[0-9]*.tmp",
    "~WRL[0-9]*.tmp",
    # SQLite's shared memory; its journals are parts of a database and go with it
    "*.*-shm",
    # Operating systems and network file systems
    ".DS_Store",
    "._*",
    "Thumbs.db",
    ".Trash-[0-9]*/",
    ".nfs[0-9a-f]*",
    ".fuse_hidden*",
)
"""Names that no user would call an output. Not here on purpose: ``build/``, ``*.bak``, ``*.log``, ``*.tmp``, and the
temporaries of rsync and sed, which become the real file by a rename in a moment."""

_MEMO_LIMIT = 100_000
_ANYWHERE = "^(?:.+/)?"
"""How the expression of a pattern without an inner slash begins."""


class Ignore:
    """A compiled set of rules.

    :param text: the content of ``.jobfsignore``.
    :param extra: patterns that come after it.
    :param builtin: whether the built-in list applies.
    """

    def __init__(self, text: str = "", extra: Iterable[str] = (), *, builtin: bool = True) -> None:
        self._extra = tuple(extra)
        self._builtin = builtin
        self.patterns = (*(BUILT_IN if builtin else ()), *text.splitlines(), *self._extra)
        self._spec, self._sieve = _compiled(self.patterns)
        self._directories: dict[str, bool] = {"": False}
        self._files: dict[str, bool] = {}

    def with_text(self, text: str) -> Ignore:
        """Return these rules with another content of ``.jobfsignore``."""
        return Ignore(text, self._extra, builtin=self._builtin)

    def __eq__(self, other: object) -> bool:
        return self.patterns == other.patterns if isinstance(other, Ignore) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.patterns)

    def is_ignored(self, path: str, is_dir: bool) -> bool:
        """Tell whether a path stays local: it matches, or lies below an ignored directory, or in ``.jobfs``.

        :param path: from the root of the workspace, without a leading slash.
        """
        memo = self._directories if is_dir else self._files
        known = memo.get(path)
        if known is None:
            if len(memo) >= _MEMO_LIMIT:
                memo.clear()
                self._directories[""] = False
            known = memo[path] = self._is_ignored(path, is_dir)
        return known

    def _is_ignored(self, path: str, is_dir: bool) -> bool:
        at = path.find("/")
        while at != -1:  # from the top, so that a very deep path needs no recursion
            if self._is_directory_ignored(path[:at]):
                return True
            at = path.find("/", at + 1)
        return self._is_directory_ignored(path) if is_dir else self._matches(path)

    def _is_directory_ignored(self, path: str) -> bool:
        known = self._directories.get(path)
        if known is None:
            known = self._directories[path] = self._matches(path + "/")
        return known

    def _matches(self, path: str) -> bool:
        if path.rstrip("/") == OWN_FOLDER:
            return True
        return self._sieve.search(path) is not None and bool(self._spec.check_file(path).include)


@lru_cache(maxsize=8)
def _compiled(patterns: tuple[str, ...]) -> tuple[GitIgnoreSpec, re.Pattern[str]]:
    """Compile patterns; those of a workspace are the same each time that they are asked for."""
    spec = GitIgnoreSpec.from_lines(patterns)
    return spec, _sieve(spec)


def _sieve(spec: GitIgnoreSpec) -> re.Pattern[str]:
    """Return one expression that finds something wherever any of the patterns does.

    Nearly all paths match none, and to learn that from the patterns one by one takes ten times as long: a fifth of the
    time in which a folder of 10,000 files is found to be unchanged.
    """
    found = [pattern.regex.pattern for pattern in spec.patterns if pattern.regex is not None]
    bare = [re.sub(r"\(\?P<\w+>", "(?:", expression) for expression in found]  # a name may occur only once
    named = [expression.removeprefix(_ANYWHERE) for expression in bare if expression.startswith(_ANYWHERE)]
    placed = [expression for expression in bare if not expression.startswith(_ANYWHERE)]
    return re.compile("|".join([*([f"{_ANYWHERE}(?:{'|'.join(named)})"] if named else []), *placed]) or "(?!)")
