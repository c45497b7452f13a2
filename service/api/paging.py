"""Pages of a list that is small enough to be at hand as a whole."""

from __future__ import annotations

from typing import Annotated, TypeVar

from msgspec import UNSET, Meta

from service.api import wire
from service.api.call import Call
from service.api.query import Query

T = TypeVar("T")

MOST_ROWS = 500
MOST_PAGES = 1_000_000_000


class PageAsked(Query, frozen=True):
    """Pages count from 1."""

    page: Annotated[int, Meta(ge=1, le=MOST_PAGES)] = 1
    size: Annotated[int, Meta(ge=1, le=MOST_ROWS)] = 100


def page_of(call: Call, items: list[T]) -> tuple[list[T], wire.Metadata]:
    """The page that the call's `PageAsked` asks for, and where it stands among the others."""
    asked: PageAsked = call.query
    pages = max(1, -(-len(items) // asked.size))
    more = asked.page < pages
    following = str(call.request.rel_url.update_query(page=asked.page + 1)) if more else UNSET
    metadata = wire.Metadata(
        current_page=asked.page, page_count=pages, total=len(items), links=wire.Links(next=following)
    )
    return items[(asked.page - 1) * asked.size : asked.page * asked.size], metadata
