"""Every operation of the API, on one screen. The OpenAPI document is made of the same table."""

from __future__ import annotations

from service.api import (
    account,
    containers,
    exec,
    jobs,
    logs,
    objects,
    projects,
    registries,
    system,
    tokens,
    user_volumes,
    wire,
)
from service.api import capabilities as offers
from service.api import datastores as stores
from service.api.call import Route
from service.api.datastores import CheckAsked
from service.api.openapi import openapi
from service.api.pages import PageAsked
from service.api.scope import Level
from service.domain.asked import JobSpecAsked
from service.domain.offers import JobImage, Preset

_P, _R, _O, _A, _Y = Level.PUBLIC, Level.READ, Level.OPERATE, Level.ADMINISTER, Level.OVERSEE
_W = Level.PROVIDE
_BIN, _TEXT, _HTML = "application/octet-stream", "text/plain", "text/html"
_JOB, _STORE, _OFFERS = "/v1/job/{id}", "/v1/datastore/{alias}", "/v1/capabilities"
_REGISTRY, _VOLUME = "/v1/registry/{id}", "/v1/volume/{id}"
_CONTAINERS = _STORE + "/container"
_CONTAINER = _CONTAINERS + "/{container}"
_OBJECTS = _CONTAINER + "/object"
#: A key is whatever follows, a line's end included: it is for the handler to refuse.
_OBJECT = _OBJECTS + "/{key:(?s:.*)}"

ROUTES: tuple[Route, ...] = (
    Route("POST", "/v1/job", jobs.submit, _O, "Submit a job", JobSpecAsked, wire.Job),
    Route("GET", "/v1/job", jobs.find, _R, "List jobs", None, wire.JobList, jobs.JobsAsked),
    Route("POST", "/v1/job/command", jobs.command, _R, "Its command line", JobSpecAsked, wire.CliCommand),
    Route("GET", _JOB, jobs.get, _R, "Get a job", None, wire.Job),
    Route("PUT", _JOB, jobs.edit, _O, "Change its timeout", wire.JobEdit),
    Route("PUT", _JOB + "/label", jobs.label, _O, "Set or take away a label", wire.LabelEdit),
    Route("DELETE", _JOB, jobs.delete, _O, "Delete a job", None, None, jobs.DeleteAsked),
    Route("PUT", _JOB + "/kill", jobs.kill, _O, "Interrupt a job"),
    Route("PUT", _JOB + "/start", jobs.start, _O, "Start an ended job again", None, None, jobs.StartAsked),
    Route("GET", _JOB + "/log", logs.read, _R, "Read or follow the log", None, None, logs.LogAsked, _TEXT),
    Route("GET", _JOB + "/exec", exec.run, _O, "Run a command in it", None, None, exec.ExecAsked, _TEXT),
    Route("POST", _JOB + "/datasync", jobs.sync, _O, "Pull or push data", wire.DataSyncAsked, wire.DataSync),
    Route("GET", "/v1/me", account.me, _R, "Who the token stands for", None, wire.Me),
    Route("GET", "/v1/quota", account.quota, _R, "The project's quota", None, wire.Quota),
    Route("GET", _OFFERS + "/flavor", offers.flavors, _R, "What jobs run on", None, list[wire.Flavor]),
    Route("GET", _OFFERS + "/flavor/{id}", offers.flavor, _R, "Get a flavor", None, wire.Flavor),
    Route("GET", _OFFERS + "/job/image", offers.images, _R, "Recommended images", None, list[JobImage]),
    Route("GET", _OFFERS + "/preset", offers.presets, _R, "Presets", None, list[Preset], offers.PresetsAsked),
    Route("GET", _OFFERS + "/preset/{id}", offers.preset, _R, "Get a preset", None, Preset),
    Route("GET", _OFFERS + "/quota", offers.quota, _R, "The quota, as a list", None, list[wire.MeQuotas]),
    Route("GET", "/v1/billing", account.billing, _R, "The bill, by run", None, wire.Bill, account.BillAsked),
    Route("GET", "/v1/token", tokens.find, _A, "List tokens", None, wire.TokenList, PageAsked),
    Route("POST", "/v1/token", tokens.create, _A, "Make a token", wire.TokenAsked, wire.Token),
    Route("GET", "/v1/token/{id}", tokens.get, _A, "Get a token", None, wire.Token),
    Route("POST", "/v1/token/{id}/renew", tokens.renew, _A, "Give a token a new value", None, wire.Token),
    Route("DELETE", "/v1/token/{id}", tokens.revoke, _A, "Revoke a token"),
    Route("GET", "/v1/project", projects.find, _Y, "List projects", None, wire.ProjectList),
    Route("POST", "/v1/project", projects.create, _Y, "Make a project", wire.ProjectAsked, wire.ProjectMade),
    Route("GET", "/v1/project/{id}", projects.get, _Y, "Get a project", None, wire.Project),
    Route("PUT", "/v1/project/{id}/quota", projects.set_quota, _Y, "Set a project's quota", wire.QuotaAsked),
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
    Route("GET", "/v1/openapi.json", openapi, _P, "This document"),
    Route("GET", "/", system.home, _P, "Where to begin: leads to /docs", None, wire.Home),
    Route("GET", "/docs", system.docs, _P, "These pages", media=_HTML),
    Route("GET", "/healthz", system.alive, _P, "Is the process alive", None, wire.Alive),
    Route("GET", "/readyz", system.ready, _P, "Can the service do its work", None, wire.Ready),
    Route("GET", "/metrics", system.metrics, _R, "Metrics for Prometheus", media=_TEXT),
)
