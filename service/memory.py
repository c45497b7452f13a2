"""How often Python looks for garbage that holds itself.

Nearly all that we make is freed when it is let go. What stays (modules, routes, tables of types) is looked at
again and again for nothing, and each batch of the ledger makes enough objects to set that off many times: it
took half of the processor time of a rebuild.
"""

from __future__ import annotations

import gc

#: New objects before the young ones are looked at (Python: 700), and such looks before the older ones.
NEW_OBJECTS, LOOKS = 50_000, 20


def collect_seldom() -> None:
    """Call once, when a process has imported what it needs: that is never looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS, LOOKS, LOOKS)
