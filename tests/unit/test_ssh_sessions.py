"""SSH in the ledger: what is recorded of a session, and what was written before there were any."""

from __future__ import annotations

import msgspec
import pytest

from service.domain import events as ev
from service.domain.spec import JobSpec
from service.domain.states import REACHABLE, State
from service.ssh.guests import Guest
from tests.support import jobs
from tests.support.jobs import JOB, PROJECT
from tests.unit.histories import in_state


@pytest.mark.parametrize("session", ["exec", "shell", "command", "sftp", "forward"])
def test_a_session_is_an_event_that_moves_nothing(session: ev.Session) -> None:
    outcome = in_state(State.RUNNING).when(jobs.open_exec(session=session, tty=True))
    outcome.then(ev.ExecOpened(exec_id="e1", command=jobs.SEALED, tty=True, session=session))
    assert outcome.job == in_state(State.RUNNING).job


def test_what_older_versions_wrote_is_read_and_written_as_it_was() -> None:
    body = ev.ExecOpened(exec_id="e1", command=jobs.SEALED)
    written = b'{"command":{"box":"Ym94","keyId":"key-1","nonce":"bm9uY2U="},"execId":"e1"}'
    assert ev.encode_body(body) == written
    assert ev.decode_body("ExecOpened", written) == body
    assert body.session == "exec"
    # A specification without keys is what it was, so that no read model differs from a rebuilt one.
    before = msgspec.json.encode(jobs.spec())
    assert b"ssh" not in before.lower()
    assert not msgspec.json.decode(before, type=JobSpec).ssh_public_keys


def test_a_guest_stays_for_their_run_of_their_job_while_it_may_be_reached() -> None:
    guest = Guest(JOB, 1, PROJECT, "c0ffee", "SHA256:x")
    for state in State:
        job = in_state(state).job
        assert guest.may_stay(job) is (state in REACHABLE), state
    running = in_state(State.RUNNING).job
    assert running is not None
    for changed in ({"run": 2}, {"container_id": "decaf"}, {"deleted": True}, {"container_id": None}):
        assert not guest.may_stay(msgspec.structs.replace(running, **changed)), changed
    assert not guest.may_stay(None)
