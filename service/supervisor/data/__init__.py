"""Job volumes: pulled from an object store into a host directory, and pushed back.

`pull` and `push` are the two verbs; `Store` is the object store; `prepare` and `remove_tree` begin and
end the directory's life. Everything a job can reach is treated as hostile: see `beneath`.
"""

from service.supervisor.data.model import (
    DEFAULT_LIMITS,
    Limits,
    ObjectInfo,
    Permission,
    Source,
    StoreAccess,
    Timing,
)
from service.supervisor.data.progress import Progress
from service.supervisor.data.pull import pull
from service.supervisor.data.push import push
from service.supervisor.data.s3.reading import Download
from service.supervisor.data.s3.store import Store
from service.supervisor.data.volume.layout import prepare
from service.supervisor.data.volume.remove import remove_tree

__all__ = [
    "DEFAULT_LIMITS",
    "Download",
    "Limits",
    "ObjectInfo",
    "Permission",
    "Progress",
    "Source",
    "Store",
    "StoreAccess",
    "Timing",
    "prepare",
    "pull",
    "push",
    "remove_tree",
]
