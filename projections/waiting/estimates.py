"""The courses that runs without a place are given: that of the one in the middle of their kin."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace as changed
from datetime import timedelta
from statistics import median

from msgspec.structs import replace

from projections.waiting.pieces import Course, History, Piece


def estimated(made: History) -> None:
    """Give what never got its place a course like that of its kin, if there is any."""
    known = [piece for piece in made.pieces.values() if piece.course is not None and _whole(piece.course)]
    for piece in made.pieces.values():
        if piece.course is None:
            kin = next((found for found in _kin(piece, known) if found), [])
            piece.course = _typical(piece, [each.course for each in kin if each.course is not None])


def _whole(course: Course) -> bool:
    return course.over is not None and course.bill.marks.running_at is not None


def _kin(piece: Piece, known: list[Piece]) -> Iterator[list[Piece]]:
    """The same work; as many units of the flavor in the project; the project's; anybody's."""
    own = [each for each in known if each.project == piece.project]
    yield [each for each in own if each.digest == piece.digest]
    yield [
        each
        for each in own
        if (each.resources.flavor, each.resources.units) == (piece.resources.flavor, piece.resources.units)
    ]
    yield own
    yield known


def _typical(piece: Piece, courses: list[Course]) -> Course | None:
    """The course that is in the middle of these, by how long it was."""
    if not courses:
        return None
    middle = sorted(courses, key=lambda course: course.over or timedelta())[len(courses) // 2]
    lag = timedelta(seconds=median(course.lag.total_seconds() for course in courses))
    bill = replace(
        middle.bill,
        job=str(piece.key[0]),
        run=piece.key[1],
        project=piece.project,
        kind=piece.resources.kind,
        units=piece.resources.units,
        flavor=piece.resources.flavor,
        absences=(),
        fault=None,
        ordered=(),
        positions=(),
    )
    return changed(middle, bill=bill, lag=lag, positions=(0, 0, 0), estimated=True)
