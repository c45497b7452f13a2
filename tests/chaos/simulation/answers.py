"""What clients were told, against what is in the ledger: each acknowledged command once, and none twice.

An attempt's name is in each of its events (`request_id`), so a key's events are found without the product's
own notion of which command a key means.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from tests.chaos.simulation.api import JOBS, Answer, Request
from tests.chaos.simulation.postgres import Postgres, Record

#: A refusal has done nothing, and its key is free: it may come before what is done under the same key.
_REFUSED = "SubmissionRefused"


class Answers:
    """`note` traces a line; `wrong` is told of each thing that must not be."""

    def __init__(self, server: Postgres, note: Callable[[str], None], wrong: Callable[[str], None]) -> None:
        self._server, self._note, self._wrong = server, note, wrong
        #: By key, the positions of the events that came of each of its attempts.
        self._events: dict[str, dict[str, list[int]]] = defaultdict(dict)
        self._at_send: dict[str, bool] = {}
        self._first: dict[str, Answer] = {}

    def committed(self, records: list[Record]) -> None:
        for record in records:
            name = record["request_id"]
            if name is None or record["type"] == _REFUSED:
                continue
            key = name.partition(":")[0]
            self._events[key].setdefault(name, []).append(record["position"])
            if len(self._events[key]) > 1:
                self._wrong(f"{key} was carried out by {' and by '.join(self._events[key])}")

    def sent(self, key: str) -> None:
        """Right before an attempt: from here on a key that was carried out has its answer."""
        self._at_send[key] = bool(self._events[key])

    def answered(self, request: Request, answer: Answer) -> None:
        key, status = request.key, answer.status
        self._note(f"answer {request.id} {status} {answer.positions}")
        if status >= 500:
            self._wrong(f"{request.id} is answered with {status}")
        elif status >= 400:
            if self._at_send[key]:
                self._wrong(f"{request.id} is refused with {status}, and {key} had been carried out")
        else:
            self._acknowledged(request, answer)

    def _acknowledged(self, request: Request, answer: Answer) -> None:
        key = request.key
        first = self._first.setdefault(key, answer)
        if (first.status, first.body) != (answer.status, answer.body):
            self._wrong(f"{key} was answered {first.body!r}, and then {answer.body!r}")
        if request.path == JOBS and not answer.positions:
            self._wrong(f"{key} is acknowledged, and its answer knows of no event")
        found = [position for each in self._events[key].values() for position in each]
        if answer.positions and list(answer.positions) != found:
            self._wrong(f"{key} is acknowledged with events {answer.positions}; the ledger has {found}")

    def end(self) -> None:
        """What was acknowledged is still there, and every command is there once."""
        by_command: dict[Any, list[int]] = defaultdict(list)
        for record in self._server.events:
            if record["type"] != _REFUSED:
                by_command[record["command_id"]].append(record["position"])
        for key, answer in self._first.items():
            events = [self._server.events[position - 1] for position in answer.positions]
            if any(event["request_id"].partition(":")[0] != key for event in events):
                self._wrong(f"{key} was acknowledged, and its events are not its own")
        for command, known in self._server.commands.items():
            told = list(range(known["first_position"], known["last_position"] + 1))
            if told != by_command[command]:
                self._wrong(f"command {command} is at {told}, and its events at {by_command[command]}")
