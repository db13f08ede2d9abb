"""Everything that one running server is made of, apart from HTTP.

The routes and the runner's side door both work on it. It belongs to one event loop and one thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jobfs.server.announce import Announcer
from jobfs.server.artifacts import Artifacts
from jobfs.server.checkpoints import Checkpoints
from jobfs.server.environment import Environment
from jobfs.server.faults import Faults
from jobfs.server.files import FilePool
from jobfs.server.ids import IdSource, random_id
from jobfs.server.jobs import JobRecord, Jobs
from jobfs.server.keys import KeyKind, KeyRing
from jobfs.server.limits import RateLimiter
from jobfs.server.registry import ExpertInfo, ExpertLookup, expert_name, no_experts
from jobfs.server.shapes import Json, application_json, job_json
from jobfs.server.signing import Signer
from jobfs.server.storage import Storage
from jobfs.server.switches import Switches
from jobfs.server.times import Clock, system_clock
from jobfs.server.workspace import WorkspaceRules

DEFAULT_UPLOAD_LIMIT = 64 * 1024**3
"""Largest file that is taken, in bytes, unless told otherwise."""


class ServerState:
    """One data folder with everything that serves it.

    :param experts: finds the experts that jobs may name.
    :param upload_limit: bytes of the largest file that is taken; more is 413.

    ``switches`` and ``faults`` may be replaced at any time; each request reads them once or more.
    """

    def __init__(
        self,
        folder: Path,
        *,
        switches: Switches | None = None,
        faults: Faults | None = None,
        experts: ExpertLookup = no_experts,
        upload_limit: int = DEFAULT_UPLOAD_LIMIT,
        clock: Clock = system_clock,
        new_id: IdSource = random_id,
    ) -> None:
        self.switches = switches or Switches()
        self.faults = faults or Faults()
        self.experts = experts
        self.upload_limit = upload_limit
        self.clock = clock
        self.new_id = new_id
        self.news = Announcer()
        self.storage = Storage(folder, new_id)
        self.artifacts = Artifacts(self.storage)
        self.jobs = Jobs(self.storage, self.artifacts, clock=clock, new_id=new_id)
        self.rules = WorkspaceRules(self.storage.items, clock=clock, new_id=new_id, switches=lambda: self.switches)
        self.environment = Environment(self.storage, clock)
        self.checkpoints = Checkpoints(self.storage, clock=clock, new_id=new_id)
        self.pool = FilePool(self.storage, clock=clock, new_id=new_id)
        self.keys = KeyRing(self.storage, clock)
        self.limiter = RateLimiter(clock)
        self.signer = Signer(clock)
        self.storage_origin = ""
        """Scheme, host and port of the second origin (contract E-3); empty where there is none."""
        self.storage_saw_key = False
        """Whether a key was ever sent to the second origin: a client's mistake that tests look for."""
        self.stale_pages: dict[str, Json] = {}
        """Last honest answer of each page, while the fault ``stale_pages`` is asked for."""
        self._applications: dict[str, Json] = {}

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of a change or nothing of it; must not span an await."""
        with self.storage.transaction():
            yield

    def first_start(self) -> tuple[str, str] | None:
        """Make the first organization, application and keys in a new data folder.

        :return: the ordinary and the system key in clear, for the only time; None where the folder was in use before.
        """
        if self.storage.one("SELECT 1 FROM api_key LIMIT 1") is not None:
            return None
        with self.transaction():
            application = self._create_application("default")
            return self.keys.create(KeyKind.ORDINARY, application), self.keys.create(KeyKind.SYSTEM)

    def create_application(self, name: str) -> str:
        """Add an application with a key of its own; returns the key in clear, for the only time."""
        with self.transaction():
            return self.keys.create(KeyKind.ORDINARY, self._create_application(name))

    def _create_application(self, name: str) -> str:
        application, organization, now = self.new_id(), self.new_id(), self.clock()
        self.storage.insert("organization", id=organization, name="local", created_ms=now)
        self.storage.insert("application", id=application, organization_id=organization, name=name, created_ms=now)
        self.storage.insert(
            "space", id=self.new_id(), application_id=application, job_id=None, created_ms=now, updated_ms=now
        )
        return application

    def application(self, application: str) -> Json:
        """Return an application as answers show it."""
        known = self._applications.get(application)
        if known is None:
            row = self.storage.one(
                "SELECT application.*, organization.name AS organization_name,"
                " organization.created_ms AS organization_created_ms FROM application"
                " JOIN organization ON organization.id = organization_id WHERE application.id = ?",
                application,
            )
            if row is None:
                raise LookupError(f"no application {application}")
            known = self._applications[application] = application_json(row)
        return known

    def first_application(self) -> str:
        """Return the application that the first start made."""
        row = self.storage.one("SELECT id FROM application ORDER BY created_ms LIMIT 1")
        if row is None:
            raise LookupError("the data folder has no application yet: it was never started")
        return str(row["id"])

    def expert(self, key: str) -> ExpertInfo:
        """Return the expert of a job, or a placeholder where it is no longer known."""
        name = expert_name(key)
        return self.experts(name) or ExpertInfo(name, "No longer known to this server.", "None.")

    def job_shape(self, job: JobRecord) -> Json:
        """Return a job as answers show it."""
        return job_json(job, self.expert(job.expert_key), self.application(job.application_id))

    def set_status(self, job_id: str, status: str) -> JobRecord:
        """Change a job's status in a transaction of its own, and tell whoever waits for it."""
        with self.transaction():
            job = self.jobs.set_status(job_id, status)
        self.announce(job)
        return job

    def announce(self, job: JobRecord) -> None:
        """Tell whoever waits that a job has changed; call it after the commit."""
        self.news.job_changed(job.id)
        if job.status == "queued" and not job.is_held and self.switches.hold_queued == "off":
            self.news.job_queued(job.id)

    def queued_jobs(self) -> list[str]:
        """Return the jobs that the runner may take now, the oldest first (contract I-47)."""
        return [] if self.switches.hold_queued == "on" else [job.id for job in self.jobs.queued()]

    def environment_values(self, application: str) -> Mapping[str, Any]:
        """Return variables and secrets in clear: for endpoint 14 only."""
        return {
            "envVariables": self.environment.values(application, is_secret=False),
            "envSecrets": self.environment.values(application, is_secret=True),
        }

    def close(self) -> None:
        """End all waits and close the data folder."""
        self.news.close()
        self.storage.close()
