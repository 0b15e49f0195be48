"""The command line put together: which words call which function, and how a failure ends."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from cyclopts import App
from cyclopts.exceptions import CycloptsError

from carrel import __version__
from carrel.cli import screen
from carrel.cli.completion import completion_command
from carrel.cli.failures import DONE, FAILED, INTERRUPTED, WRONG, Refused, exit_code
from carrel.cli.gateway import gateway_command
from carrel.cli.gateway_options import GatewayOptions
from carrel.cli.manual import manual_command
from carrel.cli.options import ENVIRONMENT, Target
from carrel.cli.restore import restore_command
from carrel.cli.restore_options import RestoreOptions
from carrel.errors import CarrelError

if TYPE_CHECKING:
    # Models, which the gateway's own command does without.
    from carrel.cli.conversion import Converts, Looks, Reverses

ABOUT: Final = "Carrel: a gateway for the AI agents of many tenants. `carrel COMMAND --help` says more of each."
GROUPS: Final[Mapping[tuple[str, ...], str]] = {
    ("tenants",): "Create, list, show, suspend, resume and remove tenants.",
    ("tenants", "token"): "Issue, rotate, revoke and list a tenant's tokens.",
    ("tenants", "quota"): "Show and set a tenant's quotas.",
    ("backup",): "Read backups back, and remove those that need not stay.",
    ("billing",): "Report what was used and what it cost.",
    ("secrets",): "Keep what a tenant's agents use and never have: set, list, rotate, remove.",
    ("grants",): "See what agents ask for, and decide.",
    ("channels",): "See to the bots through which people talk to a tenant's agents.",
    ("cron",): "Keep jobs that are run when their time comes.",
    ("skills",): "Teach a tenant's agents what is in a `SKILL.md`.",
    ("connections",): "Accounts that a tenant's people connect: list, link, remove.",
    ("packages",): "Choose what a tenant's sandbox holds, of what is allowed.",
    ("sandboxes",): "List, look into and stop the sandboxes that are kept between commands.",
    ("git",): "Let people push what is declared, and follow what is pulled.",
    ("audit",): "Read the record of every change, and verify it.",
}
"""Words that only hold commands."""
COMMANDS: Final[Mapping[tuple[str, ...], str]] = {
    ("check",): "declared:check",
    ("plan",): "declared:plan",
    ("schema",): "declared:schema",
    ("status",): "house:status",
    ("reconcile",): "house:reconcile",
    ("suspend",): "tenants:suspend",
    ("resume",): "tenants:resume",
    ("history",): "versions:history",
    ("diff",): "versions:diff",
    ("rollback",): "versions:rollback",
    ("git", "pull"): "git:pull",
    ("plans",): "offers:plans",
    ("tenants", "create"): "tenants:create",
    ("tenants", "list"): "tenants:list_",
    ("tenants", "show"): "tenants:show",
    ("tenants", "resize"): "tenants:resize",
    ("tenants", "suspend"): "tenants:suspend",
    ("tenants", "resume"): "tenants:resume",
    ("tenants", "remove"): "tenants:remove",
    ("tenants", "backup"): "backups:backup",
    ("tenants", "backups"): "backups:backups",
    ("tenants", "restore"): "backups:restore",
    ("backup", "all"): "backup_all:backup_all",
    ("backup", "verify"): "backups:verify",
    ("backup", "collect"): "backups:collect",
    ("tenants", "snapshot"): "snapshots:snapshot",
    ("tenants", "snapshots"): "snapshots:snapshots",
    ("tenants", "rollback"): "snapshots:rollback",
    ("tenants", "token", "show-prefixes"): "tokens:show_prefixes",
    ("tenants", "token", "issue"): "tokens:issue",
    ("tenants", "token", "rotate"): "tokens:rotate",
    ("tenants", "token", "revoke"): "tokens:revoke",
    ("tenants", "quota", "show"): "quotas:show",
    ("tenants", "quota", "update"): "quotas:update",
    ("tenants", "quota", "requests"): "quotas:requests",
    ("tenants", "quota", "decide"): "quotas:decide",
    ("chat",): "chat:chat",
    ("terminal",): "terminal:terminal",
    ("rpc",): "rpc:rpc",
    ("billing", "report"): "billing:report",
    ("billing", "invoice"): "billing:invoice",
    ("billing", "verify"): "billing:verify",
    ("billing", "rates"): "billing:rates",
    ("billing", "push"): "billing:push",
    ("grants", "list"): "grants:list_",
    ("grants", "decide"): "grants:decide",
    ("channels", "status"): "channels:status",
    ("channels", "pair"): "channels:pair",
    ("channels", "start"): "channels:start",
    ("channels", "stop"): "channels:stop",
    ("channels", "logout"): "channels:logout",
    ("cron", "list"): "cron:list_",
    ("cron", "add"): "cron:add",
    ("cron", "update"): "cron:update",
    ("cron", "remove"): "cron:remove",
    ("cron", "run"): "cron:run",
    ("cron", "runs"): "cron:runs",
    ("skills", "list"): "skills:list_",
    ("skills", "install"): "skills:install",
    ("skills", "update"): "skills:update",
    ("skills", "remove"): "skills:remove",
    ("connections", "list"): "connections:list_",
    ("connections", "link"): "connections:link",
    ("connections", "remove"): "connections:remove",
    ("packages", "list"): "packages:list_",
    ("packages", "search"): "packages:search",
    ("packages", "add"): "packages:add",
    ("packages", "remove"): "packages:remove",
    ("packages", "log"): "packages:log",
    ("secrets", "list"): "secrets:list_",
    ("secrets", "set"): "secrets:set_",
    ("secrets", "rotate"): "secrets:rotate",
    ("secrets", "remove"): "secrets:remove",
    ("secrets", "reseal"): "secrets:reseal",
    ("sandboxes", "list"): "sandboxes:list_",
    ("sandboxes", "stop"): "sandboxes:stop",
    ("sandboxes", "exec"): "sandboxes:exec_",
    ("sandboxes", "logs"): "sandboxes:logs",
    ("audit", "tail"): "audit:tail",
    ("audit", "search"): "audit:search",
    ("audit", "verify"): "audit:verify",
    ("audit", "export"): "audit:export",
    ("audit", "key"): "audit:key",
    ("audit", "mark"): "audit:mark",
    ("doctor",): "doctor:doctor",
}
"""Every command by its words, as `module:function` of this room, but for those that are made for one command line.

A command's module is imported when that command is run or explained: most of its start would be the others'."""
ALL_WORDS: Final = (
    *COMMANDS, *GROUPS, ("gateway",), ("restore",), ("node",), ("admin-key",), ("completion",), ("man",),
    ("git", "init"), ("git", "authorize"), ("git", "keys"), ("git", "revoke"),
    ("tenants", "export"), ("tenants", "import"),
)  # fmt: skip


def gateway_app(run_gateway: Callable[[GatewayOptions], int]) -> App:
    """The command line of `carrel gateway` alone, which is made without importing what the others need."""
    app = _top()
    app.command(gateway_command(run_gateway), name="gateway")
    return app


def build_app(
    run_gateway: Callable[[GatewayOptions], int],
    become: Callable[..., None] = lambda *_: None,
    program: Callable[[], str] = lambda: sys.argv[0],
    run_restore: Callable[[RestoreOptions], int] = lambda _: FAILED,
    *,
    converts: "Converts" = lambda *_: (),
    reverses: "Reverses" = lambda *_: {},
    looks: "Looks | None" = None,
) -> App:
    """The command line; `carrel gateway` calls ``run_gateway`` and ends with what it gives. Run it by `execute`.

    ``become`` and ``program`` are what `carrel git` works with: see `GitCommands`. ``run_restore`` is `carrel restore`;
    ``converts`` and ``reverses`` are what `carrel tenants import` and `export` know of other systems, ``looks`` what an
    import's dry run knows of archives.
    """
    from carrel.cli.git import GitCommands  # noqa: PLC0415 - models, see above
    from carrel.cli.moving import MovingCommands, no_looks  # noqa: PLC0415 - as above

    app = _top()
    groups: dict[tuple[str, ...], App] = {(): app}
    for words, about in GROUPS.items():
        groups[words] = App(name=words[-1], help=about)
        groups[words[:-1]].command(groups[words])
    app.command(gateway_command(run_gateway), name="gateway")
    app.command("carrel.cli.node:node", name="node")
    app.command(restore_command(run_restore), name="restore")
    app.command("carrel.cli.admin_key:admin_key", name="admin-key")
    app.command(completion_command(app), name="completion")
    app.command(manual_command(_page), name="man")
    for word, command in GitCommands(become, program).by_word().items():
        groups[("git",)].command(command, name=word)
    for word, command in MovingCommands(converts, reverses, looks or no_looks).by_word().items():
        groups[("tenants",)].command(command, name=word)
    for words, place in COMMANDS.items():
        groups[words[:-1]].command(f"carrel.cli.{place}", name=words[-1])
    return app


def _top() -> App:
    return App(name="carrel", help=ABOUT, version=f"carrel {__version__}", help_format="plaintext")


def _page() -> str:
    from carrel.cli.reference import page  # noqa: PLC0415 - it is made of this very module

    return page()


def execute(app: App, words: Sequence[str] | None = None) -> int:
    """Run ``app`` on ``words`` (by default the process's own) and give the exit code."""
    said = list(sys.argv[1:] if words is None else words)
    for name in ENVIRONMENT:
        # A shell's way to say that it is not set; read as a path it would be the working directory.
        if not os.environ.get(name, "-"):
            del os.environ[name]
    as_json = "--json" in said
    _list(app, said)
    try:
        command, bound, _ = app.parse_args(said, exit_on_error=False, print_error=False)
        as_json = any(isinstance(value, Target) and value.json for value in bound.arguments.values()) or (
            bound.arguments.get("json") is True
        )
        result = command(*bound.args, **bound.kwargs)
        sys.stdout.flush()
    except CycloptsError as error:
        from carrel.cli.mistakes import mistake  # noqa: PLC0415 - a quarter of the start, and few make one

        told = mistake(error, app.name[0], ALL_WORDS)
        return _fail(WRONG, "wrong_usage", f"{told} `{_help_of(app, said)}` says more.", as_json)
    except Refused as error:
        more = {"status": error.status, "request_id": error.request_id}
        return _fail(FAILED, error.code, error.message, as_json, {k: v for k, v in more.items() if v is not None})
    except CarrelError as error:
        return _fail(exit_code(error), error.code, error.message, as_json)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has gone: what is still buffered goes nowhere, and quietly.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return result if isinstance(result, int) else DONE


def _list(app: App, said: Sequence[str]) -> None:
    """Import what a page that lists commands tells of each, where ``said`` ask for one."""
    known: tuple[str, ...] = ()
    rest = list(said)
    while rest and (*known, rest[0]) in GROUPS and rest[0] in app:
        app, known = app[rest[0]], (*known, rest.pop(0))
    if not rest or rest[0].startswith("-"):
        app.resolved_commands()


def _fail(code: int, name: str, message: str, as_json: bool, more: Mapping[str, Any] | None = None) -> int:
    if as_json:
        screen.show_json({"error": {"code": name, "message": message, **(more or {})}}, out=sys.stderr)
    else:
        screen.complain(message)
    return code


def _help_of(app: App, said: Sequence[str]) -> str:
    """The command that explains the words that were understood."""
    known: list[str] = []
    for word in said:
        if (*known, word) not in ALL_WORDS:
            break
        known.append(word)
    return " ".join([app.name[0], *known, "--help"])
