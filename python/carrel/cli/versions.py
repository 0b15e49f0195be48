"""`carrel history`, `diff` and `rollback`: what was declared before, and the way back."""

from datetime import UTC, datetime
from typing import Annotated, Any

from cyclopts import Parameter

from carrel.cli import screen
from carrel.cli.client import path_of, request, understand
from carrel.cli.failures import DONE
from carrel.cli.options import HERE, Target
from carrel.cli.orders import order
from carrel.wire.revisions import DeclaredDiff, DeclaredRollback, HistoryList, RollbackOrder


def history(
    tenant: Annotated[str | None, Parameter(name="TENANT", help="Commits that changed this tenant alone.")] = None,
    /,
    *,
    limit: Annotated[int, Parameter(help="How many, newest first.")] = 20,
    target: Target = HERE,
) -> int:
    """List the commits that made what is declared, newest first."""
    query = {"limit": str(limit), **({"tenant": tenant} if tenant is not None else {})}
    document = request(target, "GET", path_of("history"), query=query)
    if target.json:
        screen.show_json(document)
        return DONE
    commits = understand(HistoryList, document).commits
    rows = [(c.revision[:12], _when(c.at), c.author, c.subject) for c in commits]
    screen.table(("REVISION", "WHEN", "BY", ""), rows)
    return DONE


def diff(
    revision: Annotated[str, Parameter(name="REV", help="The revision to look from.")],
    until: Annotated[
        str | None, Parameter(name="REV", help="The one to look at; by default what is there now.")
    ] = None,
    /,
    *,
    target: Target = HERE,
) -> int:
    """Show what differs in what is declared between two revisions."""
    query = {"old": revision, **({"new": until} if until is not None else {})}
    document = request(target, "GET", path_of("diff"), query=query)
    if target.json:
        screen.show_json(document)
        return DONE
    found = understand(DeclaredDiff, document)
    screen.write(found.patch)
    if found.cut:
        screen.note("The rest is left out: it is more than a mebibyte.")
    return DONE


def rollback(
    revision: Annotated[str, Parameter(name="REV", help="What it should be as it was at.")],
    /,
    *,
    target: Target = HERE,
) -> int:
    """Make what is declared what it was at a revision, by a new commit that is judged as any other."""
    document: Any = request(target, "POST", path_of("rollback"), order(RollbackOrder, {"revision": revision}))
    if target.json:
        screen.show_json(document)
        return DONE
    done = understand(DeclaredRollback, document)
    if not done.files:
        screen.say(f"Nothing differs from {done.revision[:12]}.")
        return DONE
    screen.say(f"As it was at {done.revision[:12]}, by the new commit {(done.commit or 'none')[:12]}:")
    for name in done.files:
        screen.say(f"  {screen.one_line(name)}")
    return DONE


def _when(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")
