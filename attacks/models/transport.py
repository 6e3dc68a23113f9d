"""One line to a service: requests that are retried, answers that are read within limits, queries that are counted."""

import json
import random
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from ..engine.access import charge_resent
from ..errors import EndpointError, InputError
from .address import check_url, filled, public

if TYPE_CHECKING:
    from httpx2 import Client, Response

MOST_BYTES = 16 * 2**20
"""An answer that is longer is refused: 256 samples' scores of 1000 classes take a third of it."""

LONGEST_WAIT = 120.0
"""Seconds; a service that asks to be left alone for longer is not waited for."""

BEFORE_WORK = {408, 425, 429}
"""Statuses by which a service turns a request away before it works on it, and would take it later."""


class Transport:
    """Sends requests to one address.

    Redirects are not followed, certificates are checked, and proxies of the environment are used except on this
    machine itself. An attempt that the service may have worked on counts as a query for each of its samples, and
    before the samples go out again they are charged to the :class:`~attacks.Access` that asks.

    Args:
        url: see :func:`~attacks.models.address.check_url`.
        headers: sent with every request; ``$NAME`` stands for an environment variable. No message shows the values.
        timeout: seconds to wait for the connection, for the answer to begin, and then for all of it.
        retries: attempts after the first one.
        backoff: seconds before the second attempt; twice as many before each further one, give or take a half. A
            service that says how long to wait is obeyed instead.

    Attributes:
        queries: samples that the service may have worked on so far.

    Raises:
        InputError: an address, a header or a number that cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float = 30.0,
        retries: int = 4,
        backoff: float = 0.5,
    ) -> None:
        if timeout <= 0 or retries < 0 or backoff < 0:
            raise InputError(
                f"timeout={timeout}, retries={retries} and backoff={backoff}: the first must be above 0, the others 0 "
                "or more."
            )
        self._local = check_url(url, secret=bool(headers))
        self.url, self.name = url, public(url)
        self.timeout, self.retries, self.backoff = timeout, retries, backoff
        self.queries = 0
        self._headers = {name: filled(name, value) for name, value in (headers or {}).items()}
        self._client: Client | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> "Transport":
        return self  # a copy of a model asks the same service, and their queries count together

    def post(self, content: bytes, kind: str, samples: int) -> Any:
        """Send samples; the JSON of the answer.

        Args:
            content: the request's body.
            kind: its media type.
            samples: how many queries it costs.

        Raises:
            EndpointError: the service refused, or did not answer properly in the last attempt either.
            BudgetError: the samples would have to be sent again, which the budget of an Access does not cover.
        """
        return self._insist("POST", self.url, samples, content=content, headers={"Content-Type": kind})

    def get(self, path: str) -> Any:
        """The JSON at a path below the address; costs no query.

        Raises:
            EndpointError: as :meth:`post`.
        """
        return self._insist("GET", self.name.rstrip("/") + path, 0)

    def error(self, reason: str, attempts: int = 1) -> EndpointError:
        """What to raise when the service's answers are of no use, for a reason that completes a sentence."""
        tried = "" if attempts == 1 else f" after {attempts} attempts"
        return EndpointError(
            f"The endpoint {self.name} {reason}. Given up{tried}; it has cost {self.queries} queries so far. Behind an "
            "Access with a trace, what it answered is kept, and the same run goes on from there."
        )

    def _insist(self, method: str, url: str, samples: int, **request: Any) -> Any:
        for attempt in range(self.retries + 1):
            try:
                answer = self._try(method, url, **request)
            except _Failure as failure:
                self.queries += samples * failure.worked
                backoff = self.backoff * 2**attempt * random.SystemRandom().uniform(0.5, 1.5)
                wait = min(backoff, LONGEST_WAIT) if failure.wait is None else failure.wait
                if not failure.passing or attempt == self.retries or wait > LONGEST_WAIT:
                    raise self.error(str(failure), attempt + 1) from failure
                if failure.worked and samples:
                    charge_resent(samples)
                time.sleep(wait)
            else:
                self.queries += samples
                return answer
        raise AssertionError("the last attempt returned or raised")

    def _try(self, method: str, url: str, **request: Any) -> Any:
        import httpx2

        if self._client is None:
            self._client = httpx2.Client(headers=self._headers, timeout=self.timeout, trust_env=not self._local)
        try:
            with self._client.stream(method, url, **request) as response:
                content = self._read(response)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError, httpx2.PoolTimeout) as error:
            raise _Failure(f"could not be reached ({error})", worked=False, passing=True) from None
        except httpx2.TimeoutException:
            raise _Failure(f"gave no whole answer within {self.timeout:g} seconds", passing=True) from None
        except httpx2.RequestError as error:  # whose text may hold a header
            raise _Failure(f"broke the connection off ({type(error).__name__})", passing=True) from None
        if response.status_code // 100 != 2:
            raise self._refusal(response, content)
        try:
            return json.loads(content)
        except (ValueError, RecursionError):
            raise _Failure(f"gave what is no JSON, or a part of it: {self._shown(content)}", passing=True) from None

    def _read(self, response: "Response") -> bytes:
        content, deadline = bytearray(), time.monotonic() + self.timeout
        for part in response.iter_bytes():
            content += part
            if len(content) > MOST_BYTES:
                raise _Failure(f"gave an answer of more than {MOST_BYTES} bytes")
            if time.monotonic() > deadline:
                raise _Failure(f"gave no whole answer within {self.timeout:g} seconds", passing=True)
        return bytes(content)

    def _refusal(self, response: "Response", content: bytes) -> "_Failure":
        status, wait = response.status_code, _seconds(response.headers.get("Retry-After"))
        if 300 <= status < 400:
            place = self._shown(public(response.headers.get("Location", "")).encode())
            return _Failure(f"redirects to {place} (HTTP {status}), which is not followed: give that one", worked=False)
        later = "" if wait is None or wait <= LONGEST_WAIT else f" and asks to wait for {wait:g} seconds"
        text = f"refused with HTTP {status}{later}: {self._shown(content)}"
        return _Failure(text, worked=status >= 500, passing=status >= 500 or status in BEFORE_WORK, wait=wait)

    def _shown(self, content: bytes) -> str:
        """The beginning of what a stranger sent, on one line, and without our own secrets."""
        text = content[:2000].decode(errors="replace")
        for secret in (word for value in self._headers.values() for word in value.split() if len(word) > 7):
            text = text.replace(secret, "***")
        return repr("".join(one if one.isprintable() else " " for one in text[:200]))


class _Failure(Exception):
    """One attempt that failed.

    Args:
        reason: completes a sentence about the endpoint.
        worked: whether the service may have worked on the samples.
        passing: whether another attempt may succeed.
        wait: seconds that the service asks to wait; None: it does not say.
    """

    def __init__(self, reason: str, *, worked: bool = True, passing: bool = False, wait: float | None = None) -> None:
        super().__init__(reason)
        self.worked, self.passing, self.wait = worked, passing, wait


def _seconds(retry_after: str | None) -> float | None:
    """How long a Retry-After asks to wait: it is a number of seconds or a date."""
    if retry_after is None:
        return None
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (ValueError, TypeError):
        return None
