"""Why a run costs what it costs, in words."""

from __future__ import annotations

from uuid import UUID

from service.domain import commands as cmd
from service.domain.events import Info
from tests.api.bills import order, ran, statement
from tests.api.yard import READER, Supervision, Yard


async def test_a_run_is_explained_step_by_step(yard: Yard, supervision: Supervision) -> None:
    job = (await yard.submit(resources={"cpu": 2}))["id"]
    await supervision.running(job, absent=True)
    at = await yard.head()
    open_yet = (await yard.call("GET", f"/v1/billing/explain/{job}/1")).json
    assert open_yet["sentences"][2]["text"].startswith("The run is not over and stands on no total; ")
    (listed,) = (await statement(yard))["open"]
    assert not open_yet["over"]
    assert (
        (open_yet["minutes"], open_yet["amount"]) == (listed["minutes"], listed["amount"]) == (1, "0.001000")
    )
    await supervision.ended(job)
    await order(yard, "billing/credit", job=job, run=1, amount="0.0004", cites=[at])
    found = (await yard.call("GET", f"/v1/billing/explain/{job}/1", token=READER)).json
    line = (await statement(yard))["lines"][0]
    texts = [each["text"] for each in found["sentences"]]
    assert "with 2 units of ai1-1-cpu, at 0.03 EUR per hour and unit: the price book's entry" in texts[0]
    assert texts[1].startswith("It was INITIALIZING from ")
    assert texts[2].startswith("Policy 2021-05 bills from INITIALIZING to FINALIZING: from ")
    assert texts[3].startswith("Nobody looked after the run from ")
    assert texts[4].endswith("of another, which counts whole: 1 begun minute.")
    assert texts[5] == "1 minute x 2 units x 0.03 EUR / 60 = 0.001000 EUR."
    assert "a credit of 0.0004 EUR was ordered: so it is." in texts[6]
    assert texts[7].startswith("The run costs 0.000600 EUR, and stands on the statement of 20")
    cited = {position for each in found["sentences"] for position in each["positions"]}
    assert {*line["positions"][2:], at} <= cited
    assert (found["net"], found["minutes"], found["amount"]) == (line["net"], 1, "0.001000")
    then = (await yard.call("GET", f"/v1/billing/explain/{job}/1?asOf={at}")).json
    assert (then["over"], then["minutes"], then["amount"]) == (False, 1, "0.001000")
    other = (await yard.call("GET", f"/v1/billing/explain/{job}/1?policy=2026-01")).json
    assert "Policy 2026-01 bills from PENDING to the end of RUNNING" in other["sentences"][2]["text"]


async def test_why_a_run_is_not_billed(yard: Yard, supervision: Supervision) -> None:
    job = (await yard.submit())["id"]
    await supervision._say(cmd.PlaceRun, job, 1, node="local")
    await supervision._say(cmd.AbortRun, job, 1, info=Info("no-image", "It cannot be pulled."))
    await supervision._say(cmd.FinalizeRun, job, 1)
    found = (await yard.call("GET", f"/v1/billing/explain/{job}/1")).json
    assert any(each["text"].startswith("It never was RUNNING") for each in found["sentences"])
    assert (found["minutes"], found["net"]) == (0, "0.000000")
    never = (await yard.submit())["id"]
    assert (await yard.call("PUT", f"/v1/job/{never}/kill")).status == 204
    found = (await yard.call("GET", f"/v1/billing/explain/{never}/1")).json
    assert found["sentences"][0]["text"] == "The run was never placed on a node."


async def test_runs_that_are_not_there(yard: Yard, supervision: Supervision) -> None:
    job = await ran(yard, supervision)
    runs = [f"{job}/{number}" for number in ("2", "0", "x", "99999999999", "%31%00")]
    for path in (*runs, "nobody/1", f"{UUID(int=7)}/1"):
        assert (await yard.call("GET", f"/v1/billing/explain/{path}")).status == 404
