"""Workspaces and runs for scripts: the Python API, and what it shares with the command line.

Reading order: ``places`` (how a path is written), ``arguments`` (what a script gives), ``settings`` with ``profiles``,
``keystore`` and ``variables`` (which server and key), ``states`` (where state lies), ``connection`` with ``meter`` (a
server, and what passes), ``snapshot`` and ``sight`` (what is there), ``changes`` (single changes that destroy nobody's
bytes), ``reading`` and ``drafts`` (files that are read and written), ``files`` (all that can be done with the files of
one workspace), ``follow`` (waiting), ``awaiting`` and ``blocking`` with ``portal`` (the two faces of the API:
``AsyncWorkspace`` and ``Workspace``).

Absent from here: mounts, and anything that prints or asks; these are the command line's.
"""
