"""A bare HTTP client of the embedded server, for tests that look at what is on the wire."""

from __future__ import annotations

from typing import Any

import httpx

from jobfs.server.running import RunningServer

BASE = "/api/studio/v1"
Answer = tuple[int, Any]


class StudioClient:
    """Speaks to one job's workspace, or with ``job=None`` to the application's."""

    def __init__(self, server: RunningServer, job: str | None) -> None:
        self.server = server
        self.job = job
        self.http = httpx.Client(
            base_url=server.url, headers={"Authorization": f"Bearer {server.api_key}"}, timeout=20, trust_env=False
        )
        self.items = f"{BASE}/expert_jobs/{job}/workspace_instance/items" if job else f"{BASE}/workspace/items"

    def of(self, job: str | None) -> StudioClient:
        """Return a client of another workspace of the same server; closed by its own ``close``."""
        return StudioClient(self.server, job)

    def close(self) -> None:
        self.http.close()

    # ------------------------------------------------------------------ any request

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self.http.request(method, path, **options)

    def system(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request with the system key."""
        return self.http.request(method, path, headers={"Authorization": f"Bearer {self.server.system_key}"}, **options)

    def form(self, path: str, /, **fields: str | tuple[str, bytes, str]) -> httpx.Response:
        """Post a multipart form of texts and (file name, bytes, type)."""
        parts = [(name, (None, value) if isinstance(value, str) else value) for name, value in fields.items()]
        return self.http.post(path, files=parts)

    # ------------------------------------------------------------------ items

    def create_file(self, path: str, content: bytes = b"x", *, permission: str = "readWrite") -> httpx.Response:
        return self.form(
            f"{self.items}/",
            type="workspaceItemFile",
            path=path,
            permission=permission,
            file=("upload", content, "text/x-test"),
        )

    def create_directory(self, path: str, *, permission: str = "readWrite") -> httpx.Response:
        return self.form(f"{self.items}/", type="workspaceItemDirectory", path=path, permission=permission)

    def put(self, path: str, content: bytes | None = b"x", **options: str) -> dict[str, Any]:
        """Create a file, or without content a directory, that has to succeed; returns the item."""
        answer = (
            self.create_directory(path, **options) if content is None else self.create_file(path, content, **options)
        )
        assert answer.status_code == 200, answer.text
        item: dict[str, Any] = answer.json()["data"]["workspaceItem"]
        return item

    def update(self, item: str, **fields: Any) -> httpx.Response:
        return self.http.post(f"{self.items}/{item}", json=fields)

    def delete(self, item: str) -> httpx.Response:
        return self.http.delete(f"{self.items}/{item}")

    def get(self, item: str) -> httpx.Response:
        return self.http.get(f"{self.items}/{item}")

    def download(self, item: str, **headers: str) -> httpx.Response:
        return self.http.get(f"{self.items}/{item}/download", headers=headers)

    def list(self, **query: Any) -> httpx.Response:
        return self.http.get(f"{self.items}/", params=query)

    def find(self, path: str) -> list[str]:
        """Return the paths of what ``find`` answers."""
        answer = self.http.get(f"{self.items}/find", params={"path": path})
        assert answer.status_code == 200, answer.text
        return [item["path"] for item in answer.json()["data"]["workspaceItems"]]

    def paths(self) -> list[str]:
        """Return every path of the list, sorted."""
        return sorted(item["path"] for item in self.list().json()["data"]["workspaceItems"])


def refusal(answer: httpx.Response) -> tuple[int, str, Any]:
    """Return status, error and reason of a Perstack envelope, which has nothing else."""
    body = answer.json()
    assert set(body) == {"code", "error", "reason"}
    assert body["code"] == answer.status_code
    return body["code"], body["error"], body["reason"]
