"""What happened, in plain words: a sentence for each event, without anything secret in it."""

from __future__ import annotations

import re

from service.domain import events as ev
from service.domain.events import Event

_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def sentence(event: Event) -> str:
    """One sentence. Of a type without words of its own: its name, taken apart."""
    match event.body:
        case ev.Move() | ev.RunNoted() | ev.RunAdopted() | ev.DataSyncMoved():
            return _of_run(event)
        case ev.PushOrdered() | ev.SyncOrdered() | ev.ExecOpened() | ev.JobEdited() | ev.LabelSet():
            return _of_job(event)
        case ev.JobDeleted():
            return "The job was deleted."
        case ev.PricesSet() as body:
            prices = ", ".join(f"{flavor} {price}" for flavor, price in sorted(body.prices.items()))
            return f"Prices an hour from {body.valid_from:%Y-%m-%d %H:%M:%S} on: {prices} {body.currency}."
        case ev.SupervisorStarted() as body:
            return f"A supervisor took engine {body.engine[:12]} of node {body.node} (epoch {body.epoch})."
        case ev.AdmissionSet() as body:
            now = "begins no run" if body.stopped else "has room for runs again"
            why = f": {body.stopped.message}" if body.stopped else "."
            return f"Node {body.node} {now}{why}"
        case ev.BudgetSet() | ev.BudgetWarned() | ev.CreditGranted() | ev.BillCorrected():
            return _of_money(event)
        case ev.WebhookSet() | ev.WebhookRotated() | ev.WebhookPaused():
            return _of_webhook(event)
        case ev.WebhookResumed() | ev.WebhookReplayed() | ev.WebhookRemoved():
            return _of_webhook(event)
        case _:
            return _of_project(event)


def _of_run(event: Event) -> str:
    run = f"Run {event.run}"
    match event.body:
        case ev.JobSubmitted() as body:
            return (
                f"Job {body.spec.name!r} was submitted: {body.spec.image}, {body.units} {body.kind.upper()}."
            )
        case ev.RunQueued() as body:
            return f"{run} was queued: {body.info.message}"
        case ev.RunPlaced() as body:
            return f"{run} got a place on node {body.node}, at {body.hourly_price} {body.currency} an hour."
        case ev.RunPrepared():
            return f"{run} has its data; its container is being started."
        case ev.RunStarted() as body:
            return f"{run} is running in container {body.container_id[:12]}."
        case ev.InterruptOrdered() as body:
            then = " It is deleted afterwards." if body.then_delete else ""
            return f"{run} was ordered to stop.{then}"
        case ev.TimeoutReached():
            return f"{run} reached its timeout."
        case ev.StorageExceeded() as body:
            return f"{run} is stopped: it took {body.used_bytes} bytes of storage of {body.limit_bytes}."
        case ev.RunExited() as body:
            return _of_exit(run, body)
        case ev.RunAborted() as body:
            return f"{run} ends before it ran: {body.info.message}"
        case ev.RunFinalized() as body:
            kept = " What it could not push is kept." if body.volumes_kept else ""
            return f"{run} is {body.target}: {body.info.message}{kept}"
        case ev.RunErrored() as body:
            kept = " What it was to push is kept." if body.volumes_kept else ""
            return f"{run} is ERROR, our fault: {body.info.message}{kept}"
        case ev.RunNoted() as body:
            return f"{run}: {body.info.message}"
        case ev.RunAdopted() as body:
            return (
                f"{run} is looked after again; nobody had since {body.absent_since:%Y-%m-%d %H:%M:%S}, "
                "which is not billed."
            )
        case ev.DataSyncMoved() as body:
            count = sum(volume.completed for volume in body.volumes)
            moved = f"{count} object{'' if count == 1 else 's'} moved"
            said = f": {body.message}" if body.message else "."
            return f"{run}'s {body.direction} of data is {body.state}, {moved}{said}"
        case _:
            return _taken_apart(event)


def _of_exit(run: str, body: ev.RunExited) -> str:
    at = "" if body.ended_at is None else f" at {body.ended_at:%Y-%m-%d %H:%M:%S}, before it was told to stop"
    if body.unknown:  # the code is none of the process's own
        said = f"nobody knows how: the engine missed it, and says code {body.exit_code}"
        return f"{run}'s process ended{at}; {said}."
    return f"{run}'s process {'had ended' if at else 'ended'} with code {body.exit_code}{at}."


def _of_job(event: Event) -> str:
    match event.body:
        case ev.PushOrdered():
            return f"What run {event.run} had kept was ordered to be pushed again."
        case ev.SyncOrdered() as body:
            which = "all volumes" if body.volume is None else f"volume {body.volume}"
            return f"A {body.direction} of {which} of run {event.run} was ordered."
        case ev.ExecOpened() as body:
            how = "by the API" if body.session == "exec" else f"by SSH ({body.session})"
            return f"Somebody went into run {event.run}'s container {how}; their words are sealed."
        case ev.JobEdited() as body:
            again = ", and restarts at it" if body.timeout_auto_restart else ""
            return f"The job's timeout is {body.timeout} s{again}."
        case ev.LabelSet(value=None) as body:
            return f"Label {body.name!r} was taken away."
        case ev.LabelSet() as body:
            return f"Label {body.name!r} was set to {body.value!r}."
        case _:
            return _taken_apart(event)


def _of_money(event: Event) -> str:
    of = "the project" if event.run is None else f"run {event.run}"
    match event.body:
        case ev.BudgetSet(amount=None):
            return "The project has no budget any more."
        case ev.BudgetSet() as body:
            return f"The budget was set to {body.amount} {body.currency} a month."
        case ev.BudgetWarned() as body:
            return (
                f"{body.spent} {body.currency} were spent in {body.period}: {body.share} of the budget of"
                f" {body.limit} is reached."
            )
        case ev.CreditGranted() as body:
            return f"{body.amount} {body.currency} were given back to {of}: {body.reason}"
        case ev.BillCorrected() as body:
            return f"The bill of {of} was corrected by {body.difference} {body.currency}: {body.reason}"
        case _:
            return _taken_apart(event)


def _of_webhook(event: Event) -> str:
    """Without its URL, which is a secret: who knows it can post there."""
    match event.body:
        case ev.WebhookSet() as body:
            return f"Webhook {body.webhook_id} was set to {body.place}."
        case ev.WebhookRotated() as body:
            return f"Webhook {body.webhook_id} was given another secret."
        case ev.WebhookPaused() as body:
            return f"Webhook {body.webhook_id} was paused: {body.info.message}"
        case ev.WebhookResumed() as body:
            return f"Webhook {body.webhook_id} was resumed."
        case ev.WebhookReplayed() as body:
            return f"Webhook {body.webhook_id} is to deliver again everything after position {body.after}."
        case ev.WebhookRemoved() as body:
            return f"Webhook {body.webhook_id} was removed."
        case _:
            return _taken_apart(event)


def _of_project(event: Event) -> str:
    match event.body:
        case ev.SubmissionRefused() as body:
            return f"A job was not taken: {body.info.message}"
        case ev.KeyDestroyed():
            return "The job's key was destroyed: its secrets cannot be read any more."
        case ev.ProjectKeyDestroyed():
            return "The project's key was destroyed: its secrets cannot be read any more."
        case ev.ProjectCreated() as body:
            return f"Project {event.project} was made, with a quota of {body.cpu} CPU and {body.gpu} GPU."
        case ev.QuotaSet() as body:
            return f"The quota was set to {body.cpu} CPU and {body.gpu} GPU."
        case ev.TokenCreated() as body:
            limit = f", limited to jobs with {body.label_selector}" if body.label_selector else ""
            return f"Token {body.name!r} was made with the role {body.role}{limit}."
        case ev.TokenRenewed() as body:
            return f"Token {body.token_id} was given another value."
        case ev.TokenRevoked() as body:
            return f"Token {body.token_id} was revoked."
        case ev.DataStoreSet() as body:
            return f"Data store {body.alias!r} was set to {body.endpoint}."
        case ev.DataStoreRemoved() as body:
            return f"Data store {body.alias!r} was removed."
        case ev.RegistrySet() as body:
            return f"Registry {body.url} was set, for user {body.username!r}."
        case ev.RegistryRemoved() as body:
            return f"Registry {body.registry_id} was removed."
        case ev.VolumeCreated() as body:
            return f"Volume {body.volume_id} was made."
        case ev.VolumeDeleted() as body:
            return f"Volume {body.volume_id} was deleted."
        case _:
            return _taken_apart(event)


def _taken_apart(event: Event) -> str:
    return _WORDS.sub(" ", event.type).capitalize() + "."
