"""`carrel check`, `plan` and `schema`: what is declared, judged without or against a running gateway."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final

from cyclopts import Parameter

from carrel.cli import screen
from carrel.cli.client import request, understand
from carrel.cli.failures import DONE, FAILED, NotUnderstood, WrongUsage
from carrel.cli.options import HERE, Target
from carrel.cli.plans import PlanView, show_plan

DEFAULT_DIR: Final = Path("tenants.d")


def check(
    directory: Annotated[
        Path | None, Parameter(name="DIR", help="The directory of declarations, by default `tenants.d`.")
    ] = None,
    /,
    *,
    host: Annotated[
        Path | None,
        Parameter(
            help="A machine's settings, as `services.carrel` writes them; DIR is then held against them, if given."
        ),
    ] = None,
    target: Target = HERE,
) -> int:
    """Say what is wrong in a directory of declarations, or in a machine's settings. No gateway is asked."""
    if host is not None:
        return _check_host(host, directory, target)
    from carrel.declare.load import load_tree  # noqa: PLC0415 - all of the models, which other commands do without

    directory = directory if directory is not None else DEFAULT_DIR
    tree = load_tree(directory)
    problems, failed = tree.problems, bool(tree.errors)
    if target.json:
        screen.show_json(
            {"ok": not failed, "tenants": len(tree.tenants), "problems": [asdict(problem) for problem in problems]}
        )
        return FAILED if failed else DONE
    for problem in problems:
        screen.note(f"{directory / problem.file}{str(problem).removeprefix(problem.file)}")
    errors, warnings = len(tree.errors), len(problems) - len(tree.errors)
    counts = ", ".join(f"{n} {what}{'s' * (n != 1)}" for n, what in ((errors, "error"), (warnings, "warning")) if n)
    tenants = f"{len(tree.tenants)} tenant{'s' * (len(tree.tenants) != 1)}"
    screen.say(f"{tenants} declared in {directory}: {counts or 'nothing is wrong'}")
    return FAILED if failed else DONE


def _check_host(path: Path, directory: Path | None, target: Target) -> int:
    """As `check`, of a machine's settings; also of ``directory`` where one is given."""
    from carrel.declare.host import check_against, read_host  # noqa: PLC0415 - as in `check`
    from carrel.declare.problems import DeclarationInvalid  # noqa: PLC0415 - as in `check`

    try:
        settings = read_host(path)
        problems = check_against(settings, directory) if directory is not None else ()
    except DeclarationInvalid as error:
        problems = error.problems
    failed = any(problem.severity == "error" for problem in problems)
    if target.json:
        screen.show_json({"ok": not failed, "problems": [asdict(problem) for problem in problems]})
        return FAILED if failed else DONE
    for problem in problems:
        screen.note(str(problem))
    screen.say(f"{path}: {'it is refused' if failed else 'nothing is wrong'}")
    return FAILED if failed else DONE


def plan(
    directory: Annotated[
        Path | None,
        Parameter(name="DIR", help="Declarations to hold against what is in force; else the gateway's own."),
    ] = None,
    /,
    *,
    target: Target = HERE,
) -> int:
    """Show what would change in the running gateway if a directory of declarations came into force."""
    document = request(target, "GET", "/v1/plan") if directory is None else _plan_of(directory, target)
    if target.json:
        screen.show_json(document)
    else:
        show_plan(document)
    return FAILED if understand(PlanView, document).broken else DONE


def _plan_of(directory: Path, target: Target) -> Any:
    """The plan that brings ``directory`` into force, made here from what the gateway says is in force."""
    from pydantic import TypeAdapter, ValidationError  # noqa: PLC0415 - as in `check`

    from carrel.declare.load import load_tree  # noqa: PLC0415 - as in `check`
    from carrel.plan.plan import Observed, Plan, compute_plan  # noqa: PLC0415 - as in `check`
    from carrel.tenancy.overlay import StateOverlays  # noqa: PLC0415 - as in `check`

    readable = target.url is None and os.access(target.state / "tenants", os.R_OK | os.X_OK)
    tree = load_tree(directory, overlays=StateOverlays(target.state) if readable else None)
    try:
        observed = TypeAdapter(Observed).validate_python(request(target, "GET", "/v1/observed"))
    except ValidationError as error:
        raise NotUnderstood("The gateway does not say what is in force as this version understands it.") from error
    return TypeAdapter(Plan).dump_python(compute_plan(tree, observed), mode="json")


def schema(
    name: Annotated[str | None, Parameter(help="One of the kinds of file; without it they are listed.")] = None,
    /,
    *,
    target: Target = HERE,
) -> int:
    """Print the JSON Schema of one kind of file in tenants.d."""
    from carrel.declare.problems import nearest  # noqa: PLC0415 - as in `check`
    from carrel.declare.schema import KINDS, schema_documents, schema_text  # noqa: PLC0415 - as in `check`

    if name is None:
        if target.json:
            screen.show_json(schema_documents())
        else:
            screen.table(("NAME", "FILE"), [(kind, file) for kind, (file, _) in KINDS.items()])
        return DONE
    if name not in KINDS:
        close = nearest(name, KINDS)
        raise WrongUsage(
            f"There is no schema {name!r}"
            + (f"; did you mean {close}?" if close else f"; there are {', '.join(KINDS)}.")
        )
    screen.say(schema_text(name).rstrip("\n"))
    return DONE
