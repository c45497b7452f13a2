"""One validated configuration object, read once from the environment and passed down.

Every setting is `JOBYARD_<NAME>` (and `DATABASE_URL`, `DOCKER_HOST`, which others know too). Sizes are
bytes, times seconds; the unit stands last in the name.
"""

from service.config.bounds import BOUNDS
from service.config.reading import read_settings
from service.config.settings import Settings
from service.config.unknown import unknown_variables

__all__ = ["BOUNDS", "Settings", "read_settings", "unknown_variables"]
