"""/v1/datastore/{alias}/container: what a data store holds containers of objects by."""

from __future__ import annotations

from service.api import wire
from service.api.call import Call
from service.api.datastores import object_store
from service.api.pages import PageAsked, paged
from service.domain.s3stores import check_new_container


async def find(call: Call) -> wire.ContainerList:
    """All that the store's keys may see, by name."""
    asked: PageAsked = call.query
    store = await object_store(call)
    async with call.service.parts.stores.open(call.project, store) as opened:
        names = sorted(await opened.containers())
    page, metadata = paged(call, names, asked)
    return wire.ContainerList(items=[wire.Container(name=name) for name in page], metadata=metadata)


async def create(call: Call) -> wire.Container:
    """Made unless it is there: a container has nothing beside its name."""
    name = call.path("container")
    check_new_container("container", name)
    store = await object_store(call)
    async with call.service.parts.stores.open(call.project, store) as opened:
        await opened.ensure_container(name)
    return wire.Container(name=name)
