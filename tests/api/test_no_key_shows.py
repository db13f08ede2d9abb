"""No API key, secret value or signed link in any log, error, repr, or address, whatever the server does."""

from __future__ import annotations

import logging
import traceback
from pathlib import Path

import httpx
import pytest

from jobfs import errors
from jobfs.api.call import Call
from jobfs.api.keys import Keys
from jobfs.api.retry import Retries
from jobfs.api.runs import Runs
from jobfs.api.studio import Studio
from jobfs.api.transport import Transport
from jobfs.model import ItemId, Permission

SIGNED = "signature-that-opens-the-storage"


def echo(request: httpx.Request, status: int) -> httpx.Response:
    """Answer as a careless proxy does: with the request in the answer."""
    head = "\n".join(f"{name}: {value}" for name, value in request.headers.items())
    body = {"code": status, "error": "x", "reason": f"you sent {head}"}
    return httpx.Response(status, json=body)


ANSWERS = [
    *[lambda request, status=status: echo(request, status) for status in (200, 400, 401, 403, 404, 422, 429, 500, 503)],
    lambda request: httpx.Response(502, html=f"<html>{request.headers.get('authorization')}</html>"),
    lambda request: httpx.Response(200, content=request.headers.get("authorization", "").encode()),
    lambda _: httpx.Response(302, headers={"location": f"https://other.example/x?sig={SIGNED}"}),
    lambda _: httpx.Response(302, headers={"location": f"ftp://other.example/x?sig={SIGNED}"}),
]


def shown(error: BaseException) -> str:
    parts = [*traceback.format_exception(error), repr(error)]
    if isinstance(error, errors.ApiError):
        parts += [error.cause, error.remedy, error.reason, repr(error.body)]
    return "\n".join(parts)


@pytest.mark.parametrize("number", range(len(ANSWERS)))
def test_nothing_secret_shows_in_what_users_and_logs_see(far, run, caplog, tmp_path: Path, number: int) -> None:
    caplog.set_level(logging.DEBUG)
    source = tmp_path / "f"
    source.write_bytes(b"x")
    far.rule = ANSWERS[number]
    transport = far.transport("https://studio.example/api/v1", retries=Retries(attempts=2))
    studio = Studio(transport)
    files = studio.workspace("j1")
    calls = [
        lambda: files.list_page(skip=0),
        lambda: files.find("a"),
        lambda: files.create_file("a", Permission.READ_WRITE, source, ""),
        lambda: files.update(ItemId("i"), path="b"),
        lambda: studio.update_status("j1", "completed"),
        lambda: studio.workspace_instance_to_run("j1"),
        lambda: studio.application.create_secret("S", "value-of-the-secret"),
        lambda: Runs(transport).get_run("r1"),
        lambda: Runs(transport).files.upload(source),
        lambda: read(files),
    ]
    texts = [repr(transport), repr(studio), str(transport.base)]
    for call in calls:
        try:
            texts.append(repr(run(call())))
        except errors.JobfsError as error:
            texts.append(shown(error))
    texts += [caplog.text, repr(far.hooked)]
    everything = "\n".join(texts)
    for secret in (far.key, far.system_key, "value-of-the-secret", SIGNED):
        assert secret not in everything


async def read(files) -> int:
    async with files.download(ItemId("i")) as download:
        return sum([len(chunk) async for chunk in download.chunks()])


def test_the_keys_themselves_and_the_calls_do_not_show(far) -> None:
    keys = Keys(far.key, far.system_key)
    call = Call(method="POST", path="/x", subject="x", secret="value-of-the-secret")
    assert repr(keys) == "Keys(API, SYSTEM)"
    assert far.key not in str(keys)
    assert "value-of-the-secret" not in repr(call)


def test_debug_logs_of_real_connections_show_neither_key_nor_link(server, run, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    job = server.create_job()

    async def main() -> None:
        async with Transport(server.url, server.api_key, server.system_key) as transport:
            studio = Studio(transport)
            await studio.get_job(job)
            await studio.application.create_secret("SHOWN", "value-of-the-secret")
            await studio.workspace_instance_to_run(job)
            await studio.application.delete_secret("SHOWN")
        async with Transport(server.url, "wrong-key-of-somebody") as transport:
            with pytest.raises(errors.Unauthenticated) as caught:
                await Studio(transport).get_job(job)
            assert "wrong-key" not in shown(caught.value)

    run(main())
    for secret in (server.api_key, server.system_key, "value-of-the-secret", "wrong-key", "Bearer"):
        assert secret not in caplog.text
