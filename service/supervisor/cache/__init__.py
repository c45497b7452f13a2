"""The node's cache: what jobs of a project pull from one source is pulled once, and shared.

    <cache_dir>/<project>/<digest of the source>/used           its time is that of the last use
    <cache_dir>/<project>/<digest>/<n>/files/                   generation n, as jobs mount it, read-only
    <cache_dir>/<project>/<digest>/<n>/record.json              what it holds, and from where
    <cache_dir>/<project>/<digest>/making-<token>/              a generation on its way
    <cache_dir>/<project>/<digest>/gone-<token>/                one that is being removed
    <volumes_dir>/<job id>/<run>/<index>.cached                 which generation a run has mounted

A generation is complete before it has its name, and never changes afterwards. A refresh makes a new one,
with hard links to what has not changed: further names of our own files, none of which a job can write to.
`cache` is the way in, `origins` the sources, `making` and `refresh` fill a generation, `copying` gives a job
its own, `marks` tell who has what, `space` and `choice` decide what goes.
"""

from service.supervisor.cache.cache import Cache
from service.supervisor.cache.entry import Generation
from service.supervisor.cache.origins import Archive, Objects, Origin, Url

__all__ = ["Archive", "Cache", "Generation", "Objects", "Origin", "Url"]
