"""Moving a run's volumes between their sources and the node's disk, and telling the ledger how far it is.

`runs` has the verbs, `report` one synchronisation with its progress, `move` one volume of it.
"""

from service.supervisor.sync.runs import Pushed, may_be_unpushed, move_ordered, pull_all, push_all, settle

__all__ = ["Pushed", "may_be_unpushed", "move_ordered", "pull_all", "push_all", "settle"]
