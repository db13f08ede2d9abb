"""The experts that come with the server. Each is an ordinary command that runs in the workspace, like anybody's expert.

They use the standard library only and import nothing of jobfs outside this package. Run one by hand in any directory::

    python -P -m jobfs.server.builtin.word_count

``-P`` keeps Python from importing modules that lie in that directory.
"""
