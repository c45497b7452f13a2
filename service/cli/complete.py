"""What a shell offers at <TAB>: the ids and names that the service knows now.

Somebody waits at a prompt: there is one short request, in a thread that is left behind when it takes too
long, and whatever is wrong offers nothing, as there is no place to say it.
"""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import typer

from service.cli import where
from service.domain.states import ENDED, State
from service.errors import JobyardError

PATIENCE_S = 1.5
_MOST = 100

Offers = list[tuple[str, str]]
Row = tuple[str, str]
Completion = Callable[[typer.Context, str], Offers]


def _offers(path: str, row: Callable[[Any], Row], **params: Any) -> Completion:
    """Offers the ids of what a list of the service holds; shells that can show the names beside them."""

    def complete(ctx: typer.Context, incomplete: str) -> Offers:
        return [pair for pair in _asked(ctx, path, row, params) if pair[0].startswith(incomplete)]

    return complete


def _jobs(*states: State) -> Completion:
    wanted = [str(each) for each in states]

    def row(job: Any) -> Row:
        return job["id"], f"{job['spec']['name']} {job['status']['state']}"

    return _offers("/job", row, size=_MOST, statusState=wanted)


jobs = _jobs()
live_jobs = _jobs(*(each for each in State if each not in ENDED))
running_jobs = _jobs(State.RUNNING)
ended_jobs = _jobs(*(each for each in State if each in ENDED))
flavors = _offers("/capabilities/flavor", lambda each: (each["id"], each["description"]))
presets = _offers("/capabilities/preset", lambda each: (each["id"], each["name"]))
data_stores = _offers("/datastore", lambda each: (each["alias"], each["endpoint"]))
tokens = _offers(
    "/token", lambda each: (each["id"], f"{each['spec']['name']} {each['spec']['role']}"), size=_MOST
)
registries = _offers("/registry", lambda each: (each["id"], each["url"]), size=_MOST)
volumes = _offers("/volume", lambda each: (each["id"], ""), size=_MOST)
webhooks = _offers("/webhook", lambda each: (each["id"], each["description"] or each["url"]), size=_MOST)
projects = _offers("/project", lambda each: (each["id"], each["name"]), size=_MOST)


def _asked(ctx: typer.Context, path: str, row: Callable[[Any], Row], params: dict[str, Any]) -> list[Row]:
    """The items of a list; none when it cannot be had in time."""
    found: list[Row] = []

    def ask() -> None:
        try:
            found.extend([row(each) for each in _read(ctx.params, path, params)])
        except (JobyardError, OSError, http.client.HTTPException, ValueError, LookupError, TypeError):
            return  # see above: nothing is offered

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    return list(found)


def _read(given: dict[str, Any], path: str, params: dict[str, Any]) -> list[Any]:
    state = given.get("state")
    here = where.find(given.get("url"), given.get("token"), None if state is None else Path(state))
    url = urlsplit(here.url)
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = kind(url.hostname or "", url.port, timeout=PATIENCE_S)
    target = f"{url.path}/v1{path}?{urlencode(params, doseq=True)}"
    connection.request("GET", target, headers={"Authorization": f"Bearer {here.token}"})
    answer = json.loads(connection.getresponse().read())
    return list(_items(answer))


def _items(answer: Any) -> Iterable[Any]:
    return answer if isinstance(answer, list) else answer["items"]
