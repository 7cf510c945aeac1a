"""What Label Studio offers on its pages only, and not in its API: signing in, and signing up by an invite link.

A session's cookies live in memory. The token of an account that signs in is asked for and never kept.
"""

from __future__ import annotations

import http.client
import http.cookiejar
import json
import re
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from stp_bench.errors import BenchError, UserError, WorkError

_MOST = 2**22
"""Bytes of an answer that are read."""
_PATIENCE = 60
"""Seconds."""
_CSRF = re.compile(r'name="csrfmiddlewaretoken" value="([^"]+)"')
_FAULT = re.compile(
    r'class="(?:[^"]* )?(?:field_errors|error|errorlist)[^"]*"[^>]*>(.*?)</(?:p|ul|div|span)>', re.DOTALL
)
_TAG = re.compile(r"<[^>]+>")
_LOCAL = ("127.0.0.1", "localhost", "::1")


class SignUpRefused(UserError):
    """The sign-up form was sent back with a remark."""


def server_address(url: str) -> str:
    """``url`` as it is kept: scheme, host and port, and the path of a server that does not own its host.

    Raises:
        UserError: it is not the address of a web server, or it carries a password.
    """
    what = "the address of the Label Studio server cannot be used"
    mend = "write it as http://127.0.0.1:8080 or https://HOST"
    try:
        parts = urllib.parse.urlsplit(url.strip())
    except ValueError:  # brackets that hold no IPv6 address
        raise UserError(what, "it is not of the form scheme://host:port", mend) from None
    try:
        sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        sound = False
    if parts.username or parts.password:
        raise UserError(what, "it holds a name or password, which would be kept with the round", mend)
    if not sound or parts.query or parts.fragment:
        raise UserError(what, "it is not of the form scheme://host:port", mend)
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))


def is_local(url: str) -> bool:
    """Whether a server runs on this machine, by its address."""
    return urllib.parse.urlsplit(url).hostname in _LOCAL


def unreachable(url: str, why: str) -> WorkError:
    """The error for a server that does not answer."""
    mend = "start one by 'stp-bench annotate serve', or name yours with --url"
    return WorkError(f"no Label Studio answers at {url}", why, mend)


class Session:
    """A browser's visit without a browser: cookies, and forms with their token against forgery."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._jar = http.cookiejar.CookieJar()
        # A proxy cannot reach a server of this machine, whatever the environment says.
        proxies = [urllib.request.ProxyHandler({})] if is_local(url) else []
        cookies = urllib.request.HTTPCookieProcessor(self._jar)
        self._opener = urllib.request.build_opener(*proxies, cookies, _StayHere())

    def sign_in(self, email: str, password: str) -> None:
        """Sign in.

        Raises:
            UserError: the server does not take this password.
            WorkError: the server cannot be reached.
        """
        status, _ = self._submit("/user/login/", {"email": email, "password": password})
        if status != 302:
            raise UserError(
                f"cannot sign in at {self._url}",
                f"the server does not know {email} with this password",
                "set LABEL_STUDIO_API_KEY to a token of that server",
            )

    def sign_up(self, invite: str, email: str, password: str) -> None:
        """Make an account by an invite link, and sign in to it.

        Raises:
            SignUpRefused: the form came back, for example because the account is there already.
            UserError: the invite link is not (or no longer) valid.
            WorkError: the server cannot be reached.
        """
        path = "/user/signup/?" + urllib.parse.urlencode({"token": invite})
        status, page = self._submit(path, {"email": email, "password": password})
        if status == 200:
            found = _FAULT.search(page)
            why = " ".join(_TAG.sub(" ", found[1]).split()).rstrip(".") if found else "the form came back"
            raise SignUpRefused(f"no account was made for {email}", f"the server says: {why}", "mend that entry")
        if status != 302:
            raise UserError("no account was made", "the invite link is not valid any more", "run the command again")

    def token(self) -> str:
        """The API token of the account that is signed in.

        Raises:
            UserError: the server hands none out.
            WorkError: the server cannot be reached.
        """
        status, page = self._request("/api/current-user/token")
        try:
            return str(json.loads(page)["token"])
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                "the server gives no token for this account",
                f"it answers with status {status}",
                "make a personal access token on its page and set LABEL_STUDIO_API_KEY",
            ) from error

    def patch(self, path: str, value: Any) -> None:
        """Change something of the account that is signed in. Raises WorkError where the server refuses."""
        status, _ = self._request(path, json.dumps(value).encode(), "PATCH", "application/json")
        if status >= 300:
            raise WorkError(f"the server at {self._url} refused a setting", f"status {status}", "set it on its page")

    def _submit(self, path: str, values: dict[str, str]) -> tuple[int, str]:
        """Fetch a form and send it with these values."""
        status, page = self._request(path)
        found = _CSRF.search(page)
        if found is None:
            if status == 403:
                return status, ""
            raise unreachable(self._url, "what answers there has no such page")
        body = urllib.parse.urlencode({**values, "csrfmiddlewaretoken": found[1]}).encode()
        return self._request(path, body, "POST", "application/x-www-form-urlencoded")

    def _request(self, path: str, body: bytes | None = None, method: str = "GET", kind: str = "") -> tuple[int, str]:
        request = urllib.request.Request(self._url + path, data=body, method=method)
        request.add_header("Referer", self._url + path)
        if body is not None:
            request.add_header("Content-Type", kind)
            request.add_header("X-CSRFToken", next((c.value or "" for c in self._jar if c.name == "csrftoken"), ""))
        try:
            with self._opener.open(request, timeout=_PATIENCE) as answer:
                return answer.status, answer.read(_MOST).decode("utf-8", "replace")
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read(_MOST).decode("utf-8", "replace")
        except BenchError:
            raise
        except (OSError, http.client.HTTPException) as error:
            raise unreachable(self._url, _reason(error)) from error


class _StayHere(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer (a form was taken), and a way by which a password could get elsewhere."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _reason(error: BaseException) -> str:
    inner = getattr(error, "reason", error)
    return str(getattr(inner, "strerror", None) or inner or type(error).__name__).lower()
