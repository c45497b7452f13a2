"""Lists that are short enough to be read whole, answered in pages all the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypeVar

from msgspec import UNSET, Meta

from service.api import wire
from service.api.call import Call
from service.api.query import Query

MOST_ROWS = 500
MOST_PAGES = 1_000_000_000

T = TypeVar("T")


class PageAsked(Query, frozen=True):
    """Pages count from 1."""

    page: Annotated[int, Meta(ge=1, le=MOST_PAGES)] = 1
    size: Annotated[int, Meta(ge=1, le=MOST_ROWS)] = 100


def paged(call: Call, items: Sequence[T], asked: PageAsked) -> tuple[list[T], wire.Metadata]:
    """The page of the items that is asked for, and what is said of it."""
    first = (asked.page - 1) * asked.size
    return list(items[first : first + asked.size]), metadata(call, asked, len(items))


def metadata(call: Call, asked: PageAsked, total: int) -> wire.Metadata:
    pages = max(1, -(-total // asked.size))
    following = call.request.rel_url.update_query(page=asked.page + 1) if asked.page < pages else None
    return wire.Metadata(
        current_page=asked.page,
        page_count=pages,
        total=total,
        links=wire.Links(next=UNSET if following is None else str(following)),
    )
