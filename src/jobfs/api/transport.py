"""Requests over the network, by httpx.

One ``Transport`` is one server and its keys. It sends what the other rooms of ``api`` describe as a ``Call`` and gives
back a JSON value or an open stream; what came between (retries, redirects, rate limits, the spelling of a final slash)
stays in here. It works below httpx's client, on its transport seam: cookies, ambient credentials and the client's own
redirects then cannot interfere, and tests hand in an ``httpx.MockTransport``.

Every wait can be cancelled and has an end: connecting, each read and each write have idle limits, a call as a whole has
a deadline. Use from one event loop only.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TypeVar, cast
from urllib.parse import quote, urlencode

import httpx

from jobfs import __version__, errors
from jobfs.api import address
from jobfs.api.answer import WRONG_ANSWER, parse_json
from jobfs.api.bodies import content, is_readable, read_body
from jobfs.api.call import Call, Redirects, Timeouts
from jobfs.api.direct import SINCE
from jobfs.api.failures import (
    KEPT_BODY_BYTES,
    Answer,
    AnswerTooLarge,
    failure,
    has_envelope,
    not_json,
)
from jobfs.api.hedge import Kind
from jobfs.api.keys import KeyKind, Keys
from jobfs.api.lanes import Lanes, laying
from jobfs.api.limiter import Limiter, Limits, Outcome
from jobfs.api.retry import Retries, Setback, retry_after_s
from jobfs.api.stream import Opened, Stream, load_of
from jobfs.api.watch import Brought, Watch, Watched

log = logging.getLogger("jobfs.api")

MOST_REDIRECTS = 5
_KEPT_ON_OTHER_ORIGIN = frozenset({"accept", "accept-encoding", "range", "user-agent"})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, httpx.UnsupportedProtocol)

RequestHook = Callable[[str, str, int], None]
"""Called after each exchange with method, path without query, and status (0 where no answer came)."""

_T = TypeVar("_T")
_Read = Callable[[Call, Opened], Awaitable[_T]]


@dataclass(slots=True)
class _Progress:
    """How far a call has come, over all its tries."""

    deadline: float
    tries: int = 0
    refusals: int = 0
    is_sent: bool = False
    is_unclear: bool = False
    is_respelt: bool = False


class Transport:
    """A server, its keys, and the connections to it.

    :param base_url: with any prefix (contract T-2); https, or http to this machine (T-3).
    :param on_request: see ``RequestHook``.
    :param http: the seam for tests.
    :param clock: monotonic seconds; ``sleep``, ``chance`` (0 to 1) and ``now`` (the epoch) likewise replaceable.
    :raises SettingsError: for an address or key that cannot be used.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        system_key: str | None = None,
        *,
        limits: Limits | None = None,
        timeouts: Timeouts | None = None,
        retries: Retries | None = None,
        on_request: RequestHook | None = None,
        http: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        chance: Callable[[], float] = random.random,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.base = address.parse_base(base_url)
        self._keys = Keys(api_key, system_key)
        self._timeouts = timeouts or Timeouts()
        self._retries = retries or Retries()
        self._on_request = on_request
        limits = limits or Limits()
        self._limiter = Limiter(limits)
        self._lanes = Lanes(laying(self.base, self._timeouts.dead_s) if http is None else lambda: http)
        idle_s, connect_s = self._timeouts.idle_s, self._timeouts.connect_s
        self._watch = Watch(self._may_ask, self._forget_lanes, first_s=self._timeouts.quiet_s)
        self._extensions = {"timeout": {"connect": connect_s, "read": idle_s, "write": idle_s, "pool": connect_s}}
        self._clock, self._sleep, self._chance, self._now = clock, sleep, chance, now
        self._resume_at = clock()
        self._respelt = {True: False, False: False}

    def __repr__(self) -> str:
        return f"Transport({str(self.base)!r})"

    @property
    def concurrency(self) -> int:
        """Requests that may be under way at once, as learnt so far."""
        return self._limiter.limit

    async def aclose(self) -> None:
        """Close every connection."""
        await self._watch.aclose()
        await self._lanes.aclose()

    async def __aenter__(self) -> Transport:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def json(self, call: Call) -> object:
        """Make a call and return the JSON value of its answer.

        :raises ApiError: see ``engine.remote`` for what each class promises.
        """
        return await self._run(call, self._progress(call), self._read_json)

    async def done(self, call: Call) -> None:
        """Make a call whose answer's body means nothing: any 2xx is success (contract I-24).

        A DELETE that finds nothing after a try of unclear outcome was done by that try (contract I-25).
        """
        progress = self._progress(call)
        try:
            await self._run(call, progress, self._read_nothing)
        except errors.NotFound:
            if call.method != "DELETE" or not progress.is_unclear:
                raise

    @asynccontextmanager
    async def stream(self, call: Call) -> AsyncIterator[Stream]:
        """Make a call and give its body as it arrives; tried again until the first byte, never after it."""
        opened = await self._run(call, self._progress(call), self._keep_open)
        try:
            yield Stream(_response(opened), call.subject, opened, self._watch)
        finally:
            await self._close(opened)

    def _progress(self, call: Call) -> _Progress:
        length = call.body.length if call.body and call.is_transfer else 0
        return _Progress(self._clock() + self._timeouts.total_s + length / self._timeouts.slowest_bytes_per_s)

    async def _run(self, call: Call, progress: _Progress, read: _Read[_T]) -> _T:
        """Try until there is a result or a final failure."""
        while True:
            result = await self._try(call, progress, read)
            if not isinstance(result, Setback):
                if progress.is_respelt:
                    self._respelt[_is_collection(call)] ^= True
                return result
            progress.is_unclear |= result.may_be_done
            if result.is_bare and not progress.is_respelt:
                progress.is_respelt = True
                continue
            wait_s = self._wait_s(call, progress, result)
            if wait_s is None:
                raise _last_word(call, progress, result)
            log.debug("%s %s: again in %.1f s (%s)", call.method, call.subject, wait_s, type(result.error).__name__)
            await self._sleep(wait_s)

    def _wait_s(self, call: Call, progress: _Progress, setback: Setback) -> float | None:
        """Return how long to wait before the next try, or None where there must be none."""
        if not setback.can_pass or (setback.may_be_done and not call.repeats):
            return None
        if setback.retry_after_s is None:
            progress.tries += 1
            if progress.tries >= self._retries.attempts:
                return None
            wait_s = self._retries.wait_s(progress.tries, self._chance())
        else:
            # A server that asks for no time at all, again and again, gets our own growing pauses all the same.
            progress.refusals += 1
            own_s = self._retries.wait_s(progress.refusals, self._chance())
            wait_s = max(setback.retry_after_s, own_s) + self._chance() * self._retries.first_s
        return wait_s if self._clock() + wait_s < progress.deadline else None

    async def _try(self, call: Call, progress: _Progress, read: _Read[_T]) -> _T | Setback:
        if (held_s := self._resume_at - self._clock()) > 0:
            if self._clock() + held_s >= progress.deadline:
                return Setback(_rate_limited(call.subject, held_s))
            await self._sleep(held_s + self._chance() * self._retries.first_s)
        progress.is_sent = False
        watched: Watched[object] = Watched()
        try:
            async with asyncio.timeout(max(0.0, progress.deadline - self._clock())) as watched.limit:
                return await self._ask(call, progress, read, await self._take(call, progress, read, watched))
        except TimeoutError:
            if (brought := watched.take()) is not None:
                return cast(_T | Setback, brought.value)
            if watched.is_dead:
                return self._broken(call, progress, "the line is dead", can_pass=True)
            return self._broken(call, progress, f"no answer within {self._timeouts.total_s:g} s", can_pass=False)
        except httpx.RequestError as broken:
            progress.is_sent = progress.is_sent and not isinstance(broken, _NOT_SENT)
            setback = self._broken(call, progress, _detail(broken), can_pass=not _is_untrusted(broken))
            setback.error.__cause__ = broken
            return setback
        finally:
            unused = watched.take()
            if unused is not None and isinstance(unused.value, Opened):
                await self._close(unused.value)

    async def _take(self, call: Call, progress: _Progress, read: _Read[_T], watched: Watched[object]) -> Opened:
        """Wait for a place, take a lane, and have the request watched that is sent over it."""
        slot = None if call.is_endless else await self._limiter.acquire(is_transfer=call.is_transfer)
        opened = Opened(slot, self._lanes.take(), watched)
        kind = _kind(call)
        if kind is Kind.READ:
            watched.again = partial(self._ask_again, call, progress, read, opened)
        if kind is not None:
            self._watch.begin(watched, kind)
        return opened

    async def _ask_again(self, call: Call, progress: _Progress, read: _Read[_T], old: Opened) -> Brought[object] | None:
        """Ask over a new connection what the old one does not answer; None where that brings nothing.

        It needs no place of its own among the requests under way: it takes that of the one that it comes instead of.
        """
        opened = Opened(None, self._lanes.lay(), Watched(), is_again=True)
        self._watch.begin(opened.watched, Kind.AGAIN)
        try:
            result = await self._ask(call, progress, read, opened)
        except (httpx.RequestError, errors.JobfsError) as error:
            log.debug("%s %s: asked again in vain (%s)", call.method, call.subject, type(error).__name__)
            return None
        if isinstance(result, Setback) and result.can_pass:
            return None
        if result is opened:
            opened.slot, old.slot = old.slot, None
        return Brought(result)

    async def _ask(self, call: Call, progress: _Progress, read: _Read[_T], opened: Opened) -> _T | Setback:
        is_kept = False
        try:
            await self._exchange(call, progress, opened)
            if not _response(opened).is_success:
                return await self._refusal(call, opened)
            result = await read(call, opened)
            is_kept = result is opened
            return result
        except BaseException as failure_:
            opened.outcome = load_of(failure_)
            raise
        finally:
            if not is_kept:
                await self._close(opened)

    async def _close(self, opened: Opened) -> None:
        self._watch.end(opened.watched)
        try:
            if opened.response is not None:
                await opened.response.aclose()
        finally:
            if opened.slot is not None:
                self._limiter.release(opened.slot, opened.outcome)
            now = self._clock()
            if opened.is_again and opened.response is None:
                await self._lanes.drop(opened.lane)
            else:
                self._lanes.give_back(opened.lane, now)
        await self._lanes.prune(now)

    async def _exchange(self, call: Call, progress: _Progress, opened: Opened) -> None:
        """Send the request and follow its redirects; leaves the answer that counts in ``opened``."""
        url = self._url(call, is_respelt=progress.is_respelt)
        headers = self._headers(call)
        for followed in range(MOST_REDIRECTS + 1):
            progress.is_sent = progress.is_sent or call.method != "GET"
            opened.response = await self._send(opened, call, url, headers)
            opened.is_elsewhere = url.origin != self.base.origin
            opened.watched.since = opened.response.extensions.get(SINCE)
            self._watch.heard(opened.watched)
            target = _redirect(call, url, opened.response)
            if target is None or followed == MOST_REDIRECTS:
                return
            await opened.response.aclose()
            if target.origin != url.origin:
                self._watch.end(opened.watched)
                headers = {name: value for name, value in headers.items() if name.lower() in _KEPT_ON_OTHER_ORIGIN}
            url = target

    async def _send(self, opened: Opened, call: Call, url: address.Url, headers: Mapping[str, str]) -> httpx.Response:
        try:
            request = httpx.Request(
                call.method,
                _parsed(str(url)),
                headers=[("Host", url.authority), *headers.items()],
                stream=content(call.body, partial(self._watch.sent, opened.watched)),
                extensions=self._extensions,
            )
        except httpx.InvalidURL:
            raise errors.InvalidPath(f"{call.subject}: too long for a request", "shorten it") from None
        status = 0
        try:
            response = await opened.lane.handle_async_request(request)
            status = response.status_code
        finally:
            if self._on_request is not None:
                is_ours = url.origin == self.base.origin
                self._on_request(call.method, url.path if is_ours else "(another origin)", status)
        return response

    def _url(self, call: Call, *, is_respelt: bool) -> address.Url:
        if call.key is KeyKind.NONE:
            elsewhere = address.parse(call.path)
            if elsewhere is None or not elsewhere.is_private:
                raise errors.ProtocolViolation(f"{call.subject}: the server names an address that is not safe")
            return elsewhere
        path = call.path
        if call.has_slash_twin and is_respelt != self._respelt[_is_collection(call)]:
            path = path.removesuffix("/") if _is_collection(call) else f"{path}/"
        query = f"?{urlencode(call.query, quote_via=quote, safe='')}" if call.query else ""
        base = self.base
        return address.Url(base.scheme, base.host, base.port, base.path + path, query)

    def _headers(self, call: Call) -> dict[str, str]:
        is_content = call.is_transfer or call.is_endless
        headers = {
            "Accept": "*/*" if call.is_transfer else "text/event-stream" if call.is_endless else "application/json",
            "Accept-Encoding": "identity" if is_content else "gzip",
            "User-Agent": f"jobfs/{__version__}",
            **call.headers,
        }
        if call.key is not KeyKind.NONE:
            headers["Authorization"] = self._keys.authorization(call.key)
        if call.body is not None:
            headers["Content-Length"] = str(call.body.length)
            if call.body.content_type:
                headers["Content-Type"] = call.body.content_type
        elif call.method not in ("GET", "DELETE"):
            headers["Content-Length"] = "0"
        return headers

    async def _keep_open(self, call: Call, opened: Opened) -> Opened:
        _readable(call, opened)
        self._watch.opened(opened.watched)
        return opened

    def _read(self, opened: Opened, most: int) -> Awaitable[bytes]:
        return read_body(_response(opened), most, partial(self._watch.heard, opened.watched))

    def _may_ask(self) -> bool:
        return self._clock() >= self._resume_at

    async def _forget_lanes(self, age_s: float) -> None:
        log.debug("what was connected more than %.1f s ago brings nothing any more", age_s)
        await self._lanes.forget(self._clock() - age_s)

    async def _read_json(self, call: Call, opened: Opened) -> object:
        response = _readable(call, opened)
        body = await self._read(opened, call.most_bytes + 1)
        if len(body) > call.most_bytes:
            raise AnswerTooLarge(f"{call.subject}: an answer of more than {call.most_bytes} bytes", "", status=200)
        try:
            return parse_json(body)
        except ValueError:
            shown = b"" if call.is_sensitive else self._keys.redact(body)
            raise not_json(Answer(response.status_code, response.headers, shown), call.subject) from None

    async def _read_nothing(self, call: Call, opened: Opened) -> None:
        if is_readable(_response(opened)):
            await self._read(opened, KEPT_BODY_BYTES)

    async def _refusal(self, call: Call, opened: Opened) -> Setback:
        """Say what an answer outside 2xx means for the next try."""
        response = _response(opened)
        body = (await self._read(opened, KEPT_BODY_BYTES))[:KEPT_BODY_BYTES] if is_readable(response) else b""
        answer = Answer(response.status_code, response.headers, self._keys.redact(body, call.secret))
        status = answer.status
        if opened.is_elsewhere and status not in (404, 429) and status < 500:
            return Setback(_storage_refused(call.subject, status), can_pass=True, may_be_done=True)
        error = failure(answer, call.subject, key=call.key, method=call.method, envelope=call.envelope)
        if call.is_sensitive:
            error.body = b""
        if status not in (408, 425, 429) and status < 500:
            is_bare = status == 404 and call.method == "GET" and call.has_slash_twin
            return Setback(error, is_bare=is_bare and not has_envelope(answer, call.envelope))
        opened.outcome = Outcome.OVERLOADED
        after_s = retry_after_s(answer.headers.get("retry-after"), self._now()) if status in (429, 503) else None
        if after_s is not None:
            error.advise(f"try again in {after_s:.0f} s")
            self._resume_at = max(self._resume_at, self._clock() + min(after_s, self._retries.longest_s))
        was_refused = status == 429 or after_s is not None
        return Setback(error, status not in (501, 505, 507), may_be_done=not was_refused, retry_after_s=after_s)

    def _broken(self, call: Call, progress: _Progress, detail: str, *, can_pass: bool) -> Setback:
        """Say what a broken exchange means: for a write that went out, that nobody knows whether it was done."""
        where = self.base.authority if call.key is not KeyKind.NONE else "the storage"
        if progress.is_sent and call.method != "GET":
            unknown = errors.OutcomeUnknown(
                f"{call.subject}: the connection to {where} broke after sending ({detail})",
                "it may have been done all the same; look before trying again",
            )
            return Setback(unknown, can_pass, may_be_done=True)
        error = errors.Unreachable(f"no connection to {where} ({detail})", "check the network and the server address")
        return Setback(error, can_pass)


def _response(opened: Opened) -> httpx.Response:
    if opened.response is None:
        raise AssertionError("an exchange ended without an answer")
    return opened.response


def _readable(call: Call, opened: Opened) -> httpx.Response:
    response = _response(opened)
    if not is_readable(response):
        raise errors.ProtocolViolation(f"{call.subject}: the answer has an encoding nobody asked for", WRONG_ANSWER)
    return response


def _last_word(call: Call, progress: _Progress, setback: Setback) -> errors.ApiError:
    """Return what the caller is told: a later refusal does not take back that an earlier try may have been done."""
    if call.method != "GET" and progress.is_unclear and not setback.may_be_done and setback.can_pass:
        return errors.OutcomeUnknown(
            f"{call.subject}: an earlier try may have been done, and later ones failed ({setback.error.cause})",
            "look before trying again",
            status=setback.error.status,
        )
    return setback.error


def _kind(call: Call) -> Kind | None:
    """Return what a call is to the watch; None where it does not go to the server itself."""
    if call.key is KeyKind.NONE:
        return None
    if call.method == "GET":
        return Kind.OPEN if call.is_endless else Kind.READ
    return Kind.WRITE if call.body is None else Kind.SENDING


def _is_collection(call: Call) -> bool:
    return call.path.endswith("/")


def _redirect(call: Call, source: address.Url, response: httpx.Response) -> address.Url | None:
    """Return where to go on, or None where this answer is the last (contract T-1, T-8, E-3, E-4)."""
    if response.status_code not in _REDIRECTS or call.redirects is Redirects.REPORT:
        return None
    location = response.headers.get("location")
    if location is None:
        return None
    target = address.redirect_target(source, location)
    if target is None or call.method == "GET":
        return target
    return target if response.status_code in (307, 308) and target.origin == source.origin else None


def _detail(broken: httpx.RequestError) -> str:
    """Return the cause of a broken exchange in a few words."""
    if _is_untrusted(broken):
        return "its certificate is not trusted"
    if isinstance(broken, httpx.TimeoutException):
        return "no answer in time"
    for cause in _causes(broken):
        if isinstance(cause, ConnectionError) and cause.errno:
            return os.strerror(cause.errno).lower()  # the loop's own words are its call and a pair of numbers
    return str(broken) or type(broken).__name__


def _causes(broken: BaseException) -> Iterator[BaseException]:
    """Yield an exception, and what it came of."""
    cause: BaseException | None = broken
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _is_untrusted(broken: BaseException) -> bool:
    return any(isinstance(cause, ssl.SSLCertVerificationError) for cause in _causes(broken))


def _rate_limited(subject: str, wait_s: float) -> errors.RateLimited:
    return errors.RateLimited(
        f"{subject}: the server asks for fewer requests", f"try again in {wait_s:.0f} s", status=429
    )


def _storage_refused(subject: str, status: int) -> errors.ServerFailure:
    return errors.ServerFailure(
        f"{subject}: the storage behind the server refused its own link ({status})", "try again", status=status
    )


_parsed = lru_cache(maxsize=64)(httpx.URL)
"""Every new item goes to one address, and reading that took a tenth of a small request."""
