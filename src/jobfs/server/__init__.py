"""The embedded studio server: the whole API over one data folder, for people and tests without an account.

``app.create_app`` puts it together; ``serve.run_server`` and ``running.RunningServer`` serve it. From below to above:
values (``switches``, ``ids``, ``times``, ``paths``, ``refusals``, ``items``); the rules of a workspace over any store
(``workspace``, ``memory``); what is on disk (``schema``, ``storage``, ``content``); the records (``jobs``,
``artifacts``, ``checkpoints``, ``environment``, ``files``, ``keys``), held together by ``state``; HTTP (``bodies``,
``forms``, ``shapes``, ``runs``, ``answers``, ``operations``, ``routes_*``, ``front``); and the runner of jobs
(``experts``, ``runner`` and what they use, ``sandbox``), which reaches the rest through the internal endpoints.

Nothing here knows the client: the two meet in HTTP alone.
"""
