"""Every operation of the API, in one table. The OpenAPI document is made of the same table."""

from __future__ import annotations

from service.api import (
    account,
    audit,
    billing,
    budgets,
    containers,
    diff,
    erasure,
    estimates,
    exec,
    exports,
    incidents,
    jobs,
    logs,
    objects,
    prices,
    projects,
    registries,
    system,
    tokens,
    user_volumes,
    waiting,
    webhooks,
    whatif,
    wire,
)
from service.api import capabilities as offers
from service.api import datastores as stores
from service.api.call import Route
from service.api.datastores import CheckAsked
from service.api.events import read as events
from service.api.events.asked import EventsAsked
from service.api.events.asyncapi import asyncapi
from service.api.focus_files import MEDIA
from service.api.openapi import openapi
from service.api.pages import PageAsked
from service.api.query import AsOfAsked
from service.api.scope import Level
from service.domain.asked import JobSpecAsked
from service.domain.bills.explain import Explanation
from service.domain.bills.statement import Statement
from service.domain.offers import JobImage, Preset
from service.ledger.incident.bundle import IncidentFile

_P, _R, _O, _A, _Y = Level.PUBLIC, Level.READ, Level.OPERATE, Level.ADMINISTER, Level.OVERSEE
_W, _D = Level.PROVIDE, Level.WHOLE
_BIN, _TEXT, _HTML = "application/octet-stream", "text/plain", "text/html"
_BUDGET = "/v1/project/{id}/budget"
_JOB, _STORE, _OFFERS = "/v1/job/{id}", "/v1/datastore/{alias}", "/v1/capabilities"
_REGISTRY, _VOLUME = "/v1/registry/{id}", "/v1/volume/{id}"
_HOOK = "/v1/webhook/{id}"
_CONTAINERS = _STORE + "/container"
_CONTAINER = _CONTAINERS + "/{container}"
_OBJECTS = _CONTAINER + "/object"
#: A key is whatever follows, a line's end included: it is for the handler to refuse.
_OBJECT = _OBJECTS + "/{key:(?s:.*)}"

ROUTES: tuple[Route, ...] = (
    Route("POST", "/v1/job", jobs.submit, _O, "Submit a job", JobSpecAsked, wire.Job),
    Route("GET", "/v1/job", jobs.find, _R, "List jobs", None, wire.JobList, jobs.JobsAsked),
    Route("POST", "/v1/job/command", jobs.command, _R, "Its command line", JobSpecAsked, wire.CliCommand),
    Route(
        *("POST", "/v1/job/estimate", estimates.estimated, _R, "What it would cost"),
        *(JobSpecAsked, wire.Estimate),
    ),
    Route("GET", _JOB, jobs.get, _R, "Get a job", None, wire.Job, AsOfAsked),
    Route("GET", _JOB + "/diff", diff.diff, _R, "What changed", None, wire.JobDiff, diff.DiffAsked),
    Route("PUT", _JOB, jobs.edit, _O, "Change its timeout", wire.JobEdit),
    Route("PUT", _JOB + "/label", jobs.label, _O, "Set or take away a label", wire.LabelEdit),
    Route("DELETE", _JOB, jobs.delete, _O, "Delete a job", None, None, jobs.DeleteAsked),
    Route("PUT", _JOB + "/kill", jobs.kill, _O, "Interrupt a job"),
    Route("PUT", _JOB + "/start", jobs.start, _O, "Start an ended job again", None, None, jobs.StartAsked),
    Route("GET", _JOB + "/why", waiting.why, _R, "Why it waits or waited", None, wire.Why, waiting.WhyAsked),
    Route(
        *("GET", _JOB + "/log", logs.read, _R, "Read or follow the log"),
        *(None, None, logs.LogAsked, _TEXT),
        follows=True,
    ),
    Route(
        *("GET", _JOB + "/exec", exec.run, _O, "Run a command in it"),
        *(None, None, exec.ExecAsked, _TEXT),
        follows=True,
    ),
    Route("POST", _JOB + "/datasync", jobs.sync, _O, "Pull or push data", wire.DataSyncAsked, wire.DataSync),
    Route(
        *("GET", _JOB + "/incident", incidents.export, _A, "Export an incident bundle"),
        *(None, IncidentFile, incidents.IncidentAsked),
    ),
    Route("DELETE", _JOB + "/key", erasure.job, _O, "Erase an ended job's secrets"),
    Route("POST", "/v1/whatif", whatif.whatif, _R, "What if", wire.WhatIfAsked, wire.WhatIf),
    Route("GET", "/v1/me", account.me, _R, "Who the token stands for", None, wire.Me),
    Route("GET", "/v1/quota", account.quota, _R, "The project's quota", None, wire.Quota, AsOfAsked),
    Route("GET", _OFFERS + "/flavor", offers.flavors, _R, "What jobs run on", None, list[wire.Flavor]),
    Route("GET", _OFFERS + "/flavor/{id}", offers.flavor, _R, "Get a flavor", None, wire.Flavor),
    Route("GET", _OFFERS + "/job/image", offers.images, _R, "Recommended images", None, list[JobImage]),
    Route("GET", _OFFERS + "/preset", offers.presets, _R, "Presets", None, list[Preset], offers.PresetsAsked),
    Route("GET", _OFFERS + "/preset/{id}", offers.preset, _R, "Get a preset", None, Preset),
    Route("GET", _OFFERS + "/quota", offers.quota, _R, "The quota, as a list", None, list[wire.MeQuotas]),
    Route("GET", "/v1/billing", account.billing, _R, "The bill, by run", None, wire.Bill, account.BillAsked),
    Route(
        *("GET", "/v1/billing/export", exports.focus, _R, "A month's bill in the format of FOCUS"),
        *(None, None, exports.ExportAsked, ", ".join(MEDIA.values())),
    ),
    Route(
        *("GET", "/v1/billing/statement", billing.of_month, _R, "A month's statement"),
        *(None, Statement, billing.StatementAsked),
    ),
    Route(
        *("POST", "/v1/billing/replay", billing.replay, _R, "Bill the events anew, and compare"),
        *(wire.ReplayAsked, wire.Replay),
    ),
    Route(
        *("GET", "/v1/billing/explain/{job}/{run}", billing.explain, _R, "Why a run costs what it does"),
        *(None, Explanation, billing.ExplainAsked),
    ),
    Route("POST", "/v1/billing/credit", billing.credit, _Y, "Credit", wire.CreditAsked, wire.Ordered),
    Route(
        *("POST", "/v1/billing/correction", billing.correct, _Y, "Correct the bill of a run"),
        *(wire.CorrectionAsked, wire.Ordered),
    ),
    Route("GET", "/v1/prices", prices.find, _R, "The price book", None, wire.PriceList, prices.PricesOf),
    Route("POST", "/v1/prices", prices.create, _Y, "Set prices", wire.PricesAsked, wire.PriceList),
    Route("GET", "/v1/audit", audit.find, _A, "Who did what", None, wire.AuditList, audit.LogAsked),
    Route("GET", "/v1/audit/key", audit.key, _R, "Who signs checkpoints", None, wire.AuditKey),
    Route("GET", "/v1/audit/checkpoint", audit.checkpoint, _R, "The newest", None, wire.AuditCheckpoint),
    Route("GET", "/v1/audit/proof/{position}", audit.proof, _A, "Prove an event", None, wire.AuditProof),
    Route(
        *("GET", "/v1/audit/export", audit.export, _A, "Export events with their proofs"),
        *(None, None, audit.ExportAsked, audit.LINES),
    ),
    Route("GET", "/v1/events", events.read, _R, "Events", None, wire.EventPage, EventsAsked, follows=True),
    Route("GET", "/v1/token", tokens.find, _A, "List tokens", None, wire.TokenList, PageAsked),
    Route("POST", "/v1/token", tokens.create, _A, "Make a token", wire.TokenAsked, wire.Token),
    Route("GET", "/v1/token/{id}", tokens.get, _A, "Get a token", None, wire.Token),
    Route("POST", "/v1/token/{id}/renew", tokens.renew, _A, "Give a token a new value", None, wire.Token),
    Route("DELETE", "/v1/token/{id}", tokens.revoke, _A, "Revoke a token"),
    Route("GET", "/v1/project", projects.find, _Y, "List projects", None, wire.ProjectList),
    Route("POST", "/v1/project", projects.create, _Y, "Make a project", wire.ProjectAsked, wire.ProjectMade),
    Route("GET", "/v1/project/{id}", projects.get, _Y, "Get a project", None, wire.Project),
    Route("PUT", "/v1/project/{id}/quota", projects.set_quota, _Y, "Set a project's quota", wire.QuotaAsked),
    Route("GET", "/v1/budget", budgets.own, _R, "The budget, and what was spent", None, wire.Budget),
    Route("GET", _BUDGET, budgets.get, _Y, "A project's budget", None, wire.Budget),
    Route("PUT", _BUDGET, budgets.put, _Y, "Set a project's budget", wire.BudgetAsked, wire.Budget),
    Route("DELETE", "/v1/project/{id}/key", erasure.project, _Y, "Erase all of a project's secrets"),
    Route("GET", "/v1/datastore", stores.find, _R, "List data stores", None, wire.DataStoreList),
    Route(
        "POST", "/v1/datastore", stores.create, _W, "Add a store", wire.StoreAsked, wire.DataStore, CheckAsked
    ),
    Route("GET", _STORE, stores.get, _R, "Get a data store", None, wire.DataStore),
    Route("PUT", _STORE, stores.replace, _W, "Replace a store", wire.StoreReplaced, None, CheckAsked),
    Route("DELETE", _STORE, stores.remove, _W, "Remove a data store"),
    Route(*("GET", _CONTAINERS, containers.find, _R, "List containers"), None, wire.ContainerList, PageAsked),
    Route("PUT", _CONTAINER, containers.create, _O, "Make a container", None, wire.Container),
    Route("GET", _OBJECTS, objects.find, _R, "List objects", None, wire.ObjectList, objects.ObjectsAsked),
    Route("GET", _OBJECT, objects.download, _R, "Download an object", media=_BIN),
    Route("PUT", _OBJECT, objects.upload, _O, "Upload an object", None, wire.StoredObject),
    Route("DELETE", _OBJECT, objects.delete, _O, "Delete an object"),
    Route(
        *("GET", "/v1/registry", registries.find, _R, "List registries"), None, wire.RegistryList, PageAsked
    ),
    Route(
        *("POST", "/v1/registry", registries.create, _W, "Attach a registry"),
        *(wire.RegistryAsked, wire.Registry, CheckAsked),
    ),
    Route("GET", _REGISTRY, registries.get, _R, "Get a registry", None, wire.Registry),
    Route(
        "PUT", _REGISTRY, registries.update, _W, "Change a registry", wire.RegistryChanged, None, CheckAsked
    ),
    Route("DELETE", _REGISTRY, registries.remove, _W, "Detach a registry"),
    Route(
        *("GET", "/v1/volume", user_volumes.find, _R, "List volumes"),
        *(None, wire.UserVolumeList, user_volumes.VolumesAsked),
    ),
    Route(
        *("POST", "/v1/volume", user_volumes.create, _W, "Make a volume"),
        *(wire.UserVolumeAsked, wire.UserVolume),
    ),
    Route("GET", _VOLUME, user_volumes.get, _R, "Get a volume", None, wire.UserVolume),
    Route("DELETE", _VOLUME, user_volumes.remove, _W, "Delete a volume"),
    Route(*("GET", "/v1/webhook", webhooks.find, _D, "List webhooks"), None, wire.WebhookList, PageAsked),
    Route(
        *("POST", "/v1/webhook", webhooks.create, _D, "Make a webhook"),
        *(wire.WebhookAsked, wire.Webhook, webhooks.UrlAsked),
    ),
    Route("GET", _HOOK, webhooks.get, _D, "Get a webhook", None, wire.Webhook),
    Route(
        "PUT", _HOOK, webhooks.update, _D, "Change a webhook", wire.WebhookChanged, None, webhooks.UrlAsked
    ),
    Route("DELETE", _HOOK, webhooks.remove, _D, "Delete a webhook"),
    Route(
        "POST", _HOOK + "/rotate", webhooks.rotate, _D, "Make a secret", wire.WebhookRotation, wire.Webhook
    ),
    Route("POST", _HOOK + "/pause", webhooks.pause, _D, "Deliver nothing for now", None, wire.Webhook),
    Route("POST", _HOOK + "/resume", webhooks.resume, _D, "Go on delivering", None, wire.Webhook),
    Route("POST", _HOOK + "/replay", webhooks.replay, _D, "Deliver again", wire.WebhookReplay, wire.Webhook),
    Route("POST", _HOOK + "/test", webhooks.test, _D, "Send a ping", None, wire.WebhookTest),
    Route(
        *("GET", _HOOK + "/delivery", webhooks.deliveries, _D, "The last attempts"),
        *(None, wire.DeliveryList, PageAsked),
    ),
    Route("GET", "/v1/openapi.json", openapi, _P, "This document"),
    Route("GET", "/v1/asyncapi.json", asyncapi, _P, "The event stream, as AsyncAPI"),
    Route("GET", "/", system.home, _P, "Where to begin: leads to /docs", None, wire.Home),
    Route("GET", "/docs", system.docs, _P, "These pages", media=_HTML),
    Route("GET", "/healthz", system.alive, _P, "Is the process alive", None, wire.Alive),
    Route("GET", "/readyz", system.ready, _P, "Can the service do its work", None, wire.Ready),
    Route("GET", "/metrics", system.metrics, _R, "Metrics for Prometheus", media=_TEXT),
)
