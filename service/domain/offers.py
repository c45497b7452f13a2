"""What a yard offers beside its flavors: images and presets that its operator recommends."""

from __future__ import annotations

from typing import Literal

import msgspec


class Offer(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """Base of the entries; they are read from the catalogue file and answered as they stand."""


class JobImage(Offer, frozen=True):
    """An image that jobs may use, with its tags in `versions`. Any other image may be used as well."""

    id: str
    name: str
    description: str = ""
    versions: tuple[str, ...] = ()
    doc_url: str = ""
    logo_url: str = ""


class DocUrl(Offer, frozen=True):
    name: str
    url: str


class PresetResources(Offer, frozen=True):
    max_gpu: int = 0


class PresetCapabilities(Offer, frozen=True):
    """What a job of the preset can be asked for."""

    exec: bool = True
    log: bool = True
    ssh: bool = False
    volume: bool = True
    flavor_types: tuple[Literal["cpu", "gpu"], ...] = ("cpu", "gpu")
    resources: PresetResources = PresetResources()


class Preset(Offer, frozen=True):
    """A job to begin with: `snippet` is the image or command line that it stands for."""

    id: str
    name: str
    type: Literal["job"] = "job"
    snippet: str = ""
    descriptions: tuple[str, ...] = ()
    doc_url: tuple[DocUrl, ...] = ()
    logo_url: str = ""
    capabilities: PresetCapabilities = PresetCapabilities()
