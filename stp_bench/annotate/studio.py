"""Label Studio, as one account sees it. The only module that knows its SDK.

Whatever the SDK raises becomes one line that says what to do, without tokens and without bodies that are not JSON.
Tasks are read page by page as JSON and not as the SDK's objects: pages bound the memory, show progress, and keep what
the server said.
"""

from __future__ import annotations

import json
import math
import re
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stp_bench.annotate.session import is_local, server_address, unreachable
from stp_bench.errors import BenchError, UserError, WorkError

OLDEST = (1, 20)
"""Versions before it lack endpoints that are used here."""
TASKS_PAGE, EXPORT_PAGE = 1000, 500
"""Tasks per request, without and with their annotations."""
IMPORT_BATCH = 1000
_TIMEOUT = 600.0
_KEPT = ("id", "completed_by", "was_cancelled", "lead_time", "created_at", "updated_at", "updated_by", "result",
         "parent_prediction", "parent_annotation", "ground_truth", "import_id")  # fmt: skip
"""Of an annotation. The rest names people or changes by itself (``created_username``, ``created_ago``)."""
_SECRET = re.compile(r"[0-9a-fA-F]{40}|eyJ[\w-]+\.[\w-]+\.[\w-]+")
_MEND_TOKEN = "set LABEL_STUDIO_API_KEY to a token from the account page of that server"
_AGAIN = "nothing is lost: run the same command again when it is back"


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """What a server says of itself."""

    release: str
    edition: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """A project as the server has it."""

    id: int
    title: str
    description: str
    config: str
    annotators: int
    """Annotations that it wants of each task."""
    shows_predictions: bool
    tasks: int


class Studio:
    """A Label Studio server and one account on it.

    Args:
        url: see `stp_bench.annotate.session.server_address`.
        token: a personal access token or a legacy one.

    Raises:
        UserError: the SDK is not installed, or the server is too old or does not take the token.
        WorkError: nothing answers, or it is no Label Studio.
    """

    def __init__(self, url: str, token: str) -> None:
        self.url = server_address(url)
        with _explained(self.url):
            import httpx
            from label_studio_sdk.client import LabelStudio

            # A proxy cannot reach a server of this machine, whatever the environment says.
            client = httpx.Client(timeout=_TIMEOUT, follow_redirects=False, trust_env=not is_local(self.url))
            make: Any = LabelStudio  # its constructor has no types
            self._client: Any = make(base_url=self.url, api_key=token, timeout=_TIMEOUT, httpx_client=client)
        self.legacy_token = bool(re.fullmatch(r"[0-9a-fA-F]{40}", token))
        self.server = self._identify()
        check_version(self.server.release)

    def _identify(self) -> Server:
        with _explained(self.url):
            found = self._get("api/version")
            if not isinstance(found, Mapping) or "release" not in found:
                raise unreachable(self.url, "what answers there is something else")
            self._client.users.whoami()
            return Server(release=str(found["release"]), edition=str(found.get("edition", "unknown")))

    def find(self, marker: str) -> int | None:
        """The newest project whose description is ``marker``."""
        found = None
        for page in self._pages("api/projects/", {"include": "id,description", "page_size": 100}, "results", "count"):
            for entry in page:
                if entry.get("description") == marker:
                    found = max(found or 0, int(entry["id"]))
        return found

    def project(self, number: int) -> Remote | None:
        """A project, or None where there is none (any more)."""
        with _explained(self.url):
            from label_studio_sdk.core import ApiError

            try:
                found = self._client.projects.get(id=number)
            except ApiError as error:
                if error.status_code == 404:
                    return None
                raise
            return Remote(
                id=number, title=str(found.title), description=str(found.description or ""),
                config=str(found.label_config or ""), annotators=int(found.maximum_annotations or 1),
                shows_predictions=bool(found.show_collab_predictions), tasks=int(found.task_number or 0),
            )  # fmt: skip

    def create(
        self, *, title: str, marker: str, config: str, annotators: int, guidelines: str, show_predictions: bool = False
    ) -> Remote:
        """A new project, in which annotators see the guidelines and never each other's answers."""
        with _explained(self.url):
            made = self._client.projects.create(
                title=title[:50], description=marker, label_config=config, maximum_annotations=annotators,
                expert_instruction=guidelines, show_instruction=True, show_skip_button=True,
                enable_empty_annotation=False, show_collab_predictions=show_predictions, show_annotation_history=False,
            )  # fmt: skip
            assert made.id is not None
            found = self.project(made.id)
        assert found is not None
        return found

    def configure(self, number: int, *, config: str | None = None, annotators: int | None = None) -> None:
        """Change the interface of a project, or how many annotations each of its tasks wants."""
        values: dict[str, Any] = {"label_config": config, "maximum_annotations": annotators}
        with _explained(self.url):
            self._client.projects.update(id=number, **{k: v for k, v in values.items() if v is not None})

    def delete(self, number: int) -> bool:
        """Delete a project with all that it holds; False where there was none."""
        if self.project(number) is None:
            return False
        with _explained(self.url):
            self._client.projects.delete(id=number)
        return True

    def tasks(self, number: int) -> Iterator[Sequence[Mapping[str, Any]]]:
        """Pages of tasks, ``id`` and ``data`` each."""
        yield from self._tasks(number, TASKS_PAGE, {"fields": "task_only", "include": "id,data"})

    def export(self, number: int, page_size: int = EXPORT_PAGE) -> Iterator[Sequence[Mapping[str, Any]]]:
        """Pages of tasks with everybody's annotations, also skipped ones, and with what the server counts itself.

        Raises:
            WorkError: the server went away, or tasks came or went while the pages were read.
        """
        for page in self._tasks(number, page_size, {"fields": "all"}):
            yield [
                {
                    "id": task["id"],
                    "data": task["data"],
                    "overlap": task.get("overlap"),
                    "is_labeled": task.get("is_labeled"),
                    "total_annotations": task.get("total_annotations"),
                    "annotations": [{k: a.get(k) for k in _KEPT} for a in task.get("annotations") or ()],
                    "drafts": len(task.get("drafts") or ()),
                }
                for task in page
            ]

    def count(self, number: int) -> int:
        """How many tasks a project has."""
        with _explained(self.url):
            return int(self._get("api/tasks/", project=number, page=1, page_size=1, include="id")["total"])

    def add(self, number: int, tasks: Sequence[Mapping[str, Any]]) -> None:
        """Import tasks. The server knows no duplicates: each call makes new ones."""
        with _explained(self.url):
            made = self._client.projects.import_tasks(id=number, request=list(tasks))
        if made.task_count != len(tasks):
            why = f"it took {made.task_count} of {len(tasks)} tasks"
            raise WorkError("the server did not import everything", why, "run the same command again")

    def change(self, task: int, data: Mapping[str, Any]) -> None:
        """Replace a task's data."""
        with _explained(self.url):
            self._client.tasks.update(id=str(task), data=dict(data))

    def serve(self, number: int, folder: Path) -> None:
        """Let a project show files of a folder below the server's document root."""
        with _explained(self.url):
            storages = self._client.import_storage.local
            if not any(found.path == str(folder) for found in storages.list(project=number)):
                storages.create(project=number, path=str(folder), title="stp-bench", use_blob_urls=True)

    def uploaded(self, number: int) -> dict[str, str]:
        """Files that a project has got by upload: name to path on the server."""
        found: dict[str, str] = {}
        with _explained(self.url):
            for entry in self._get(f"api/projects/{number}/file-uploads", all="true"):
                path = str(entry["file"])
                # The server puts eight digits and a dash of its own before each name.
                found[path.rpartition("/")[2].partition("-")[2]] = f"/data/{path}"
        return found

    def upload(self, number: int, file: Path) -> None:
        """Send a file to a project, without making a task of it."""
        with _explained(self.url):
            path = f"api/projects/{number}/import?commit_to_project=false"
            self._request("POST", path, files={"file": (file.name, file.read_bytes(), "video/mp4")})

    def plays(self, path: str) -> bool:
        """Whether the server hands out the beginning of an mp4 file."""
        with _explained(self.url):
            answer = self._http.request(path.lstrip("/"), method="GET", headers={"Range": "bytes=0-11"})
            return answer.status_code in (200, 206) and answer.content[4:8] == b"ftyp"

    def users(self) -> dict[int, str]:
        """Everybody on the server: number to e-mail address."""
        with _explained(self.url):
            return {int(user["id"]): str(user["email"]).strip().lower() for user in self._get("api/users/")}

    def invite(self) -> str:
        """The token of the link by which people sign up."""
        with _explained(self.url):
            return str(self._client.organizations.invites.get_invite_link().token)

    @property
    def _http(self) -> Any:
        """The SDK's own way to send a request: it renews a personal access token by itself."""
        return self._client._client_wrapper.httpx_client

    def _request(self, method: str, path: str, **more: Any) -> Any:
        """The JSON that the server answers."""
        from label_studio_sdk.core import ApiError

        answer = self._http.request(path, method=method, **more)
        try:
            body = answer.json()
        except ValueError:
            body = answer.text
        if answer.status_code >= 300:
            raise ApiError(status_code=answer.status_code, body=body)
        if isinstance(body, str):
            raise unreachable(self.url, "what answers there is something else")
        return body

    def _get(self, path: str, **params: Any) -> Any:
        return self._request("GET", path, params=params)

    def _tasks(self, number: int, size: int, params: Mapping[str, Any]) -> Iterator[Sequence[Mapping[str, Any]]]:
        order = json.dumps({"ordering": ["tasks:id"]})
        yield from self._pages(
            "api/tasks/", {"project": number, "query": order, "page_size": size, **params}, "tasks", "total"
        )

    def _pages(self, path: str, params: Mapping[str, Any], field: str, total: str) -> Iterator[list[Mapping[str, Any]]]:
        page, pages = 1, 1
        seen: set[int] = set()
        count = 0
        while page <= pages:
            with _explained(self.url):
                found = self._get(path, page=page, **params)
                entries = list(found[field])
                count = int(found[total])
            pages = math.ceil(count / params["page_size"])
            seen.update(int(entry["id"]) for entry in entries)
            if entries:
                yield entries
            page += 1
        if len(seen) != count:
            why = f"{len(seen)} of {count} came"
            raise WorkError("the list changed while it was read", why, "run the same command again")


def check_version(release: str) -> None:
    """Refuse a release that is too old.

    Raises:
        UserError: it is.
    """
    numbers = tuple(int(n) for n in re.findall(r"\d+", release)[:2])
    if numbers < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        raise UserError(f"Label Studio {release} is too old", f"{wanted} is the oldest that works", "update the server")


def quoted(name: str, file: str) -> str:
    """The address, on the server, of a file in a round's folder of copies."""
    return "/data/local-files/?d=" + urllib.parse.quote(f"{name}/{file}")


@contextmanager
def _explained(url: str) -> Iterator[None]:
    """The SDK's and its HTTP library's errors in our words."""
    try:
        import httpx
        from label_studio_sdk.core import ApiError
    except ImportError as error:
        why = f"its SDK is not installed ({error.name})"
        raise UserError("cannot talk to Label Studio", why, "pip install 'stp-bench[annotate]'") from error
    try:
        yield
    except BenchError:
        raise
    except ApiError as error:
        raise _refused(url, error.status_code, error.body) from None
    except httpx.ConnectError as error:
        raise unreachable(url, _clean(str(error))) from None
    except httpx.TimeoutException:
        raise WorkError(f"Label Studio at {url} did not answer in time", f"{_TIMEOUT:.0f} s passed", _AGAIN) from None
    except (httpx.LocalProtocolError, UnicodeEncodeError):
        raise UserError("the token cannot be used", "it holds a character that no token has", _MEND_TOKEN) from None
    except httpx.HTTPError as error:
        why = _clean(str(error)) or type(error).__name__
        raise WorkError(f"Label Studio at {url} went away in the middle", why, _AGAIN) from None
    except (KeyError, TypeError, ValueError) as error:
        why = f"its answer cannot be understood ({type(error).__name__}: {_clean(str(error))})"
        raise WorkError(
            f"Label Studio at {url} answered strangely", why, "see whether its version is supported"
        ) from None


def _refused(url: str, status: int | None, body: Any) -> BenchError:
    """The error for a status; of bodies, only JSON is shown."""
    detail = ""
    if isinstance(body, Mapping):
        faults = body.get("validation_errors") or {}
        lists = [text for texts in faults.values() for text in (texts if isinstance(texts, list) else [texts])]
        detail = _clean("; ".join(map(str, lists)) or str(body.get("detail", "")))
    if status == 401 and "legacy token" in detail.lower():
        mend = "set LABEL_STUDIO_API_KEY to a personal access token, or allow legacy tokens on that server"
        return UserError(f"the server at {url} does not take this token", "legacy tokens are disabled there", mend)
    if status == 401:
        why = detail.lower().rstrip(".") or "it is unknown there"
        return UserError(f"the server at {url} does not take this token", why, _MEND_TOKEN)
    if status == 403:
        return UserError("the server refused this account", detail or "it may not do that", _MEND_TOKEN)
    if status == 404:
        why = detail.rstrip(".") or "this edition of Label Studio may not offer it"
        return WorkError("the server does not have what was asked for", why, "see 'stp-bench annotate status'")
    if status is not None and 300 <= status < 400:
        return WorkError(
            f"{url} sends elsewhere", f"status {status}", "give the address where the server itself answers"
        )
    if status is not None and status >= 500:
        return WorkError(f"Label Studio at {url} failed", f"status {status}", _AGAIN)
    return WorkError("the server refused the request", detail or f"status {status}", "mend that and run it again")


def _clean(text: str) -> str:
    """A server's words without anything that looks like a token, on one line."""
    return " ".join(_SECRET.sub("(a token)", text).split())[:300]
