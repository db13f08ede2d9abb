"""Whether the server can be reached, how quickly, with which key, and by which clock: for ``jobfs doctor``."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from jobfs.api.address import segment
from jobfs.api.call import Call
from jobfs.api.transport import Transport
from jobfs.api.workspace import PREFIX
from jobfs.cli.checks import Finding, Verdict
from jobfs.errors import ApiError, ProtocolViolation, Unauthenticated
from jobfs.workspace.settings import Settings

_MOST_SKEW_S = 60.0
_SLOW_S = 1.0
_WARM_LOOKS = 3
_LIST = Call(
    method="GET", path=f"{PREFIX}/expert_jobs/", subject="jobs", query={"take": "1", "skip": "0"}, is_transfer=True
)


@dataclass(frozen=True, slots=True)
class _Look:
    took_s: float
    date: str


async def server_findings(
    found: Settings,
    transport: Transport,
    *,
    clock_s: Callable[[], float] = time.perf_counter,
    now_s: Callable[[], float] = time.time,
) -> list[Finding]:
    """Ask the server for its list of jobs a few times, and say what that tells."""
    try:
        first = await _look(transport, clock_s)
        warm = sorted([await _look(transport, clock_s) for _ in range(_WARM_LOOKS)], key=lambda look: look.took_s)
    except Unauthenticated as error:
        reached = Finding("server", Verdict.OK, f"{found.url} answers")
        return [reached, Finding("key", Verdict.FAILED, error.cause, error.remedy)]
    except ApiError as error:
        return [Finding("server", Verdict.FAILED, f"{found.url}: {error.cause}", error.remedy)]
    usual_s = warm[_WARM_LOOKS // 2].took_s
    detail = f"{found.url} answers in {usual_s * 1000:.0f} ms, the first time in {first.took_s * 1000:.0f} ms"
    if usual_s < _SLOW_S:
        reach = Finding("server", Verdict.OK, detail)
    else:
        reach = Finding("server", Verdict.WARNING, detail, "it works, slowly; check the network and the proxy")
    return [reach, Finding("key", Verdict.OK, _kind(found)), check_clock(warm[-1].date, now_s())]


async def _look(transport: Transport, clock_s: Callable[[], float]) -> _Look:
    began_s = clock_s()
    async with transport.stream(_LIST) as stream:
        body = b"".join([chunk async for chunk in stream.chunks()])
        if not body.lstrip().startswith((b"{", b"[")):
            raise ProtocolViolation("the answer is no JSON", "check the address: it must be that of the API")
        return _Look(clock_s() - began_s, stream.headers.get("date", ""))


def _kind(found: Settings) -> str:
    return "the API key is accepted" + ("; a system key is set as well" if found.system_key else "")


def check_clock(date: str, now_s: float) -> Finding:
    """Compare the clocks.

    :param date: the header that the server sent. :param now_s: seconds since the epoch, here.
    """
    try:
        theirs_s = parsedate_to_datetime(date).timestamp()
    except ValueError:
        return Finding("clock", Verdict.NOTE, "the server does not tell the time")
    apart_s = now_s - theirs_s
    if abs(apart_s) <= _MOST_SKEW_S:
        return Finding("clock", Verdict.OK, "agrees with the server's")
    way = "ahead of" if apart_s > 0 else "behind"
    detail = f"{abs(apart_s):.0f} s {way} the server's"
    return Finding("clock", Verdict.WARNING, detail, "set it (timedatectl set-ntp true): times in listings mislead")


async def check_job(transport: Transport, job: str) -> Finding:
    """Look whether a job is there."""
    call = Call(method="GET", path=f"{PREFIX}/expert_jobs/{segment(job)}", subject=f"job {job}")
    try:
        await transport.json(call)
    except ApiError as error:
        return Finding("job", Verdict.FAILED, error.cause, error.remedy)
    return Finding("job", Verdict.OK, f"{job} is there")
