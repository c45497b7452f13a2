"""Quota: how many units a project's counted jobs hold, against how many they may."""

from __future__ import annotations

import msgspec

from service.domain.flavors import Kind
from service.errors import QuotaExceeded


class Quota(msgspec.Struct, frozen=True, rename="camel"):
    """Units in use and at most, per kind. Counted are QUEUED, INITIALIZING, PENDING and RUNNING."""

    project: str
    cpu: int = 0
    gpu: int = 0
    cpu_used: int = 0
    gpu_used: int = 0

    def limit(self, kind: Kind) -> int:
        return self.cpu if kind == "cpu" else self.gpu

    def used(self, kind: Kind) -> int:
        return self.cpu_used if kind == "cpu" else self.gpu_used

    def changed(self, kind: Kind, units: int) -> Quota:
        """The same quota with `units` more of `kind` in use (fewer when negative)."""
        if kind == "cpu":
            return msgspec.structs.replace(self, cpu_used=self.cpu_used + units)
        return msgspec.structs.replace(self, gpu_used=self.gpu_used + units)

    def admits(self, kind: Kind, units: int) -> bool:
        return self.used(kind) + units <= self.limit(kind)

    def require(self, kind: Kind, units: int) -> None:
        """Raise `QuotaExceeded` unless `units` more of `kind` fit."""
        if not self.admits(kind, units):
            used, limit = self.used(kind), self.limit(kind)
            refusal = QuotaExceeded(
                f"resources.{kind}: {units} asked, but project {self.project} uses {used} "
                f"of its quota of {limit} {kind.upper()}"
            )
            refusal.facts = {"kind": kind, "asked": units, "used": used, "limit": limit}
            raise refusal
