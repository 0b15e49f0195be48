import json

from tests.fakes.edge import Edge
from tests.unit.cli.conftest import CommandLine

COLUMNS = "date,tenant,model,tokens_in,tokens_out,tokens_cached,reasoning_tokens,tool_calls,cost_usd"


async def test_csv_has_the_columns_of_the_contract(carrel: CommandLine, edge: Edge) -> None:
    done = await carrel("billing", "report", "acme", "--period", "today", "--csv")
    assert done.code == 0, done.err
    assert done.out == f"{COLUMNS}\n2026-03-01,acme,demo,10,5,1,0,2,0.000123\n"


async def test_for_a_person_and_in_json(carrel: CommandLine, edge: Edge) -> None:
    done = await carrel("billing", "report", "acme", "--period", "2026-03-01..2026-03-31")
    assert done.code == 0, done.err
    assert done.out.splitlines()[-1] == "acme, 2026-03-01 to 2026-03-31: 0.000123 USD"
    told = await carrel("billing", "report", "acme", "--json")
    assert told.json()["rows"][0]["cost_usd"] == "0.000123"
    assert told.json()["period"] == "current-month"


async def test_by_something_more(carrel: CommandLine, edge: Edge) -> None:
    done = await carrel("billing", "report", "acme", "--by", "member", "--csv")
    assert done.out == f"{COLUMNS},member\n2026-03-01,acme,demo,10,5,1,0,2,0.000123,a-member\n"
    shown = (await carrel("billing", "report", "acme", "--by", "session")).out.splitlines()
    assert (shown[0].split()[-1], shown[1].split()[-1]) == ("SESSION", "a-session")
    assert (await carrel("billing", "report", "acme", "--by", "agent", "--json")).json()["rows"][0]["key"] == "a-agent"
    assert (await carrel("billing", "report", "acme", "--by", "colour")).code == 2


async def test_what_is_no_period_or_no_form(carrel: CommandLine, edge: Edge) -> None:
    done = await carrel("billing", "report", "acme", "--period", "someday")
    assert (done.code, done.out) == (2, "")
    assert "someday" in done.err
    assert (await carrel("billing", "report", "acme", "--csv", "--json")).code == 2


async def test_an_invoice_shows_the_arithmetic_of_each_charge(carrel: CommandLine, edge: Edge) -> None:
    done = await carrel("billing", "invoice", "acme", "--period", "2026-03-01..2026-03-31")
    assert done.code == 0, done.err
    assert done.out == (
        "Invoice of acme, 2026-03-01 to 2026-03-31 (UTC)\n\n"
        "demo: 2 calls: $0.000025\n"
        "    10 input x $1/1M x 1.25 = $0.0000125\n"
        "    5 output x $2/1M x 1.25 = $0.0000125\n"
        "    rates of the card cccccccccccc, plan pro (pppppppppppp)\n\n"
        "Total: $0.000025\n"
    )
    told = (await carrel("billing", "invoice", "acme", "--json")).json()
    assert (told["total_usd"], told["lines"][0]["parts"][1]["amount_usd"]) == ("0.000025", "0.0000125")
    assert (await carrel("billing", "invoice", "acme", "--period", "never")).code == 2


async def test_a_recount_that_finds_something_fails(carrel: CommandLine, edge: Edge) -> None:
    done = await carrel("billing", "verify", "acme")
    assert (done.code, "2026-03-01  demo" in done.out) == (1, True)
    assert (await carrel("billing", "verify", "acme", "--json")).json()["calls"] == 7
    assert (await carrel("billing", "verify", "nobody")).code == 1


async def test_the_rates_in_force(carrel: CommandLine, edge: Edge) -> None:
    done = await carrel("billing", "rates")
    assert done.code == 0, done.err
    assert done.out.splitlines()[-1].startswith("times 1.25, with a tenant's own key times 0; rate card")
    assert "demo" in done.out
    assert (await carrel("billing", "rates", "--json")).json()["rate_card"]["markup"] == "1.25"


async def test_a_push_says_that_it_is_not_there_yet_and_what_is(carrel: CommandLine) -> None:
    done = await carrel("billing", "push", "--to", "stripe", "--json")
    assert (done.code, done.out) == (1, "")
    error = json.loads(done.err)["error"]
    assert (error["code"], "billing invoice" in error["message"]) == ("not_available", True)
    assert (await carrel("billing", "push", "--to", "cash")).code == 2
