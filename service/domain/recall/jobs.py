"""Back to what a user wanted of a job."""

from __future__ import annotations

from service.domain import commands as cmd
from service.domain import events as ev
from service.domain.events import Event
from service.domain.recall.base import Before, Inverse, of_job
from service.errors import QuotaExceeded


def _submitted(event: Event, _before: Before) -> cmd.Command:
    body: ev.JobSubmitted = event.body
    return cmd.SubmitJob(**of_job(event), spec=body.spec, user=body.user, token_label=body.token_label)


def _interrupted(event: Event, before: Before) -> cmd.Command:
    body: ev.InterruptOrdered = event.body
    if body.then_delete and not (before.job is not None and before.job.delete_when_ended):
        return cmd.DeleteJob(**of_job(event), force=True)
    return cmd.KillJob(**of_job(event))


def _push_ordered(event: Event, _before: Before) -> cmd.Command:
    return cmd.SyncData(**of_job(event), sync_id=event.body.sync_id, direction="push")


def _sync_ordered(event: Event, _before: Before) -> cmd.Command:
    body: ev.SyncOrdered = event.body
    return cmd.SyncData(**of_job(event), sync_id=body.sync_id, direction=body.direction, volume=body.volume)


def _edited(event: Event, _before: Before) -> cmd.Command:
    body: ev.JobEdited = event.body
    return cmd.EditJob(**of_job(event), timeout=body.timeout, timeout_auto_restart=body.timeout_auto_restart)


def _labelled(event: Event, _before: Before) -> cmd.Command:
    return cmd.SetLabel(**of_job(event), name=event.body.name, value=event.body.value)


def _deleted(event: Event, before: Before) -> cmd.Command:
    forced = before.job is not None and before.job.push_ordered is not None
    return cmd.DeleteJob(**of_job(event), force=forced)


def _exec_opened(event: Event, _before: Before) -> cmd.Command:
    body: ev.ExecOpened = event.body
    return cmd.OpenExec(
        **of_job(event), exec_id=body.exec_id, command=body.command, tty=body.tty, session=body.session
    )


def _refused(event: Event, before: Before) -> cmd.Command | None:
    """Of a job that was not started again for its quota. Of one that was not taken there is no specification
    to go by, and of a budget not what others had spent by then."""
    if event.job is None or event.body.info.code != QuotaExceeded.code:
        return None
    return cmd.StartJob(**of_job(event), discard_volumes=before.job is not None and before.job.volumes_kept)


def _key_destroyed(event: Event, _before: Before) -> cmd.Command:
    return cmd.EraseJob(**of_job(event), key_ids=event.body.key_ids)


INVERSES: dict[type[ev.Body], Inverse] = {
    ev.JobSubmitted: _submitted,
    ev.InterruptOrdered: _interrupted,
    ev.PushOrdered: _push_ordered,
    ev.SyncOrdered: _sync_ordered,
    ev.JobEdited: _edited,
    ev.LabelSet: _labelled,
    ev.JobDeleted: _deleted,
    ev.ExecOpened: _exec_opened,
    ev.KeyDestroyed: _key_destroyed,
    ev.SubmissionRefused: _refused,
}
