"""The composition root: builds every room once, hands each what it takes, runs until told to stop, and drains."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
import uvloop

from carrel import __version__
from carrel.agents.files import AgentFiles
from carrel.agents.run import Agents
from carrel.agents.sends import Sends
from carrel.agents.sessions import Sessions
from carrel.agents.told import ToldAgents
from carrel.agents.workspace import remove_workspace
from carrel.audit.log import Audit
from carrel.backup.metrics import BackupMetrics
from carrel.backup.service import Backups, clear_left
from carrel.cli.gateway_options import GatewayOptions
from carrel.clock import Clock, SystemClock
from carrel.connections.service import Connections
from carrel.declare.host import Placement
from carrel.egress.outbound import Outbound
from carrel.egress.service import Egress
from carrel.errors import CarrelError, Conflict
from carrel.events.hub import Hub
from carrel.gitops.history import History
from carrel.grants.service import Grants
from carrel.http.changes import Changes
from carrel.http.mcp import McpForSandboxes
from carrel.http.model_hosts import ModelHosts
from carrel.http.rpc.keyed import Keyed
from carrel.http.server import Server
from carrel.http.services import Services
from carrel.ids import TenantId, new_request_id
from carrel.main.access import Access
from carrel.main.announce import Announcement, declared
from carrel.main.backups import BackupKeeping, TenantAtRest, keep_backups
from carrel.main.channels import build_channels
from carrel.main.connections import address_of, build_connections, own_vault
from carrel.main.disk import DiskUse, from_threads
from carrel.main.edits import by_hand
from carrel.main.egress import placeholder_key
from carrel.main.embeddings import Embedder
from carrel.main.engines import PromptFiles, build_engines
from carrel.main.environments import build_environments, package_source
from carrel.main.final_backups import FinalBackups
from carrel.main.first_restore import FirstRestore
from carrel.main.footprint import give_back, settle_down
from carrel.main.gitops import Declared
from carrel.main.house import House, launchers_cgroup, own_cgroup
from carrel.main.launch import CannotStart, free_port, places_of
from carrel.main.leftovers import clear_before, clear_tenants
from carrel.main.precaution import Precautions
from carrel.main.privilege import drop_root
from carrel.main.quota_warnings import QuotaWarnings
from carrel.main.sandboxes import Sandboxes
from carrel.main.secrets import SecretKeeping, TenantSecrets
from carrel.main.snapshots import SnapshotKeeping
from carrel.main.statedir import StateDir, mend_of
from carrel.main.systemd import Notifier, inherited
from carrel.main.traced import TracedMetering, TracedSandbox, traced
from carrel.mcp.proxy import McpProxy
from carrel.metering.service import Metering
from carrel.packages.environments import Environments
from carrel.packages.known import KnownPackages
from carrel.providers.guard import GAUGES, Guard
from carrel.providers.registry import Providers
from carrel.reconcile.administration import Administration
from carrel.reconcile.final_archive import FinalArchive
from carrel.reconcile.own_settings import OwnSettings
from carrel.reconcile.package_choice import PackageChoice
from carrel.reconcile.quota_requests import QuotaRequests
from carrel.reconcile.reconciler import Listener, Reconciler
from carrel.reconcile.status import Applied
from carrel.relay.guarded import GuardedRelay
from carrel.relay.hedged import HedgedRelay
from carrel.relay.relay import Relay
from carrel.relay.response import PassesOn
from carrel.responses.service import Responses
from carrel.sandbox.modes import containers
from carrel.sandbox.runner import BwrapSandbox
from carrel.sandbox.snapshots import Snapshots
from carrel.secrets import SecretStore
from carrel.skills.service import Skills
from carrel.store.control_once import ControlOnceStore
from carrel.store.once import OnceStore
from carrel.tasks import Tasks
from carrel.telemetry import Metrics, configure_logging
from carrel.tenancy.handle import Directory, Snapshot, Tenant
from carrel.tenancy.paths import require_openat2
from carrel.tenancy.tokens import TokenStore
from carrel.terminal.service import Terminals
from carrel.tracing import Traces
from carrel.vault.keys import MasterKeyUnusable
from carrel.vault.ring import KeyRing
from carrel.vault.vault import Vault
from carrel.wire.control import Actor, TokenIssue

DEMO: Final = TenantId("demo")
SWEEP_SECONDS: Final = 60.0
SETTLED_SECONDS: Final = 30.0
_THREADS: Final = 32
_CLOSING_SECONDS: Final = 20.0
"""What closing takes at most beside the draining: each room has its own deadline."""
_FOREIGN_ENVIRONMENT: Final = (
    "OPENAI_CUSTOM_HEADERS",
    "ANTHROPIC_CUSTOM_HEADERS",
    "OPENAI_BASE_URL",
    "ANTHROPIC_BASE_URL",
)
"""What the vendors' clients would take from the environment, for every tenant's calls alike."""

_log = structlog.get_logger(__name__)


def run_gateway(options: GatewayOptions) -> int:
    """Run the gateway until SIGINT or SIGTERM; 0 where it stopped as asked, 1 where it could not start.

    ``options`` hold absolute paths, as `launch.start_gateway` hands them on.
    """
    configure_logging(level=options.log_level, json=options.log_json)
    for name in _FOREIGN_ENVIRONMENT:
        os.environ.pop(name, None)
    try:
        starter = drop_root(places_of(options))
        require_openat2()
        with StateDir(options.state_dir) as state:
            return uvloop.run(_serve(options, state, starter))
    except CarrelError as error:
        problems = error.details.get("problems")
        if isinstance(problems, list | tuple) and problems:
            sys.stderr.write(f"carrel: nothing is started, for {options.tenants_dir} is not right:\n")
            sys.stderr.writelines(f"  {line}\n" for line in problems)
        else:
            sys.stderr.write(f"carrel: {error.message}{mend_of(error, options.state_dir)}\n")
        return 1


@dataclass(frozen=True)
class _Ground:
    """What all the rest stands on: started, and told what is declared."""

    clock: Clock
    metrics: Metrics
    secrets: SecretStore
    directory: Directory
    meter: Metering
    audit: Audit
    tokens: TokenStore
    environments: Environments
    known: KnownPackages
    reconciler: Reconciler
    sandbox: BwrapSandbox
    tried: asyncio.Task[str | None]
    """The sandbox's check, which goes on while what is declared is read, and is awaited before anything is served."""
    cgroup: str
    vault: Vault
    linked: Vault
    own_secrets: TenantSecrets
    ring: KeyRing
    declared: Declared
    final: FinalBackups
    traces: Traces
    state_dir: Path
    address: str
    serving: asyncio.Event


@dataclass(frozen=True)
class _Rooms:
    """What the start needs of the built gateway."""

    server: Server
    administration: Administration
    sandbox: BwrapSandbox
    house: House
    terminals: Terminals


async def _serve(options: GatewayOptions, state: StateDir, starter: int) -> int:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(_THREADS, thread_name_prefix="carrel"))
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    notifier, handed = Notifier(os.environ), inherited(os.environ)
    port = handed[0].getsockname()[1] if handed else free_port(options)
    async with AsyncExitStack() as stack:
        # Ended last: a gateway that drains for longer than the watchdog waits is alive all the while.
        pulse = _tasks("systemd", stack)
        await asyncio.to_thread(clear_before, state.path, options.tenants_dir if options.git is None else None)
        ground = await _lay_ground(options, address_of(options.host, port), stack)
        rooms = _build(options, ground, await asyncio.to_thread(placeholder_key, options.state_dir), starter, stack)
        rooms.house.problem = await ground.tried
        if options.launcher is not None:
            rooms.house.cgroup = launchers_cgroup(rooms.sandbox.controllers)
        if rooms.house.problem is not None:
            _log.error("no tool can run", reason=rooms.house.problem)
            if not options.trial:
                raise CannotStart(f"the sandbox does not hold here: {rooms.house.problem}")
        configs = [tenant.config.sandbox for tenant in ground.directory.current.tenants.values()]
        await rooms.house.try_runtimes(containers(configs))
        token = await _first_token(ground, rooms.administration) if options.trial else None
        notes = (*await asyncio.to_thread(_notes, ground.ring), *_runtime_notes(rooms.house))
        _announcement(options, port, ground, rooms.house, token=token, notes=notes).write()
        await rooms.terminals.start()
        await rooms.server.start(options.host, port, state.socket, handed=handed)
        pulse.start(notifier.keep_alive(), name="watchdog")
        pulse.start(asyncio.to_thread(clear_tenants, state.path), name="leftovers")
        notifier.ready(f"{len(ground.directory.current.tenants)} tenants")
        ground.serving.set()
        settle_down()
        await _lean_until(stop)
        _log.info("stopping", drain_seconds=options.drain_seconds)
        notifier.stopping("requests that run go on to their end", seconds=options.drain_seconds + _CLOSING_SECONDS)
    _log.info("stopped")
    return 0


async def _lean_until(stop: asyncio.Event) -> None:
    """Wait for ``stop``, giving back what the start used: at once, and when what it began besides is done too."""
    await asyncio.to_thread(give_back)
    try:
        async with asyncio.timeout(SETTLED_SECONDS):
            await stop.wait()
    except TimeoutError:
        await asyncio.to_thread(give_back)
        await stop.wait()


async def _lay_ground(options: GatewayOptions, address: str, stack: AsyncExitStack) -> _Ground:
    """Start what keeps state and follows what is declared; what is pushed last is closed first."""
    clock, metrics, directory = SystemClock(), Metrics(), Directory()
    traces, serving = Traces(), asyncio.Event()
    stack.push_async_callback(asyncio.to_thread, traces.close)
    unit, state = options.launcher, options.state_dir
    work = _tasks("metering", stack)
    meter = TracedMetering(traces=traces, state_dir=state, clock=clock, tasks=work, metrics=metrics, serving=serving)
    await meter.start()
    stack.push_async_callback(meter.close)
    audit = await _record(options, clock, stack)
    await asyncio.to_thread(clear_left, options.state_dir)
    tokens = TokenStore(state_dir=options.state_dir, clock=clock)
    for problem in await asyncio.to_thread(tokens.load):
        _log.error("tokens cannot be used", reason=problem)
    source, building = package_source(options, directory), _tasks("environments", stack)
    environments = build_environments(options, directory, source, clock, building)

    groups, cgroup = (None, "") if unit is not None else await asyncio.to_thread(own_cgroup)
    told = meter.measured
    sandbox = TracedSandbox(traces=traces, metrics=metrics, clock=clock, groups=groups, service=unit, measured=told)
    stack.push_async_callback(sandbox.close)
    tried = _tasks("sandbox", stack).start(sandbox.check(), name="check")

    async def take_in(applied: Applied) -> None:
        await asyncio.to_thread(tokens.declare, applied.snapshot)
        suspended = sum(tenant.suspended for tenant in applied.snapshot.tenants.values())
        metrics.tenants("suspended", suspended)
        metrics.tenants("active", len(applied.snapshot.tenants) - suspended)
        for action in applied.plan.actions:
            if action.verb == "delete":
                await asyncio.to_thread(tokens.forget, TenantId(action.tenant))
                final.forget(TenantId(action.tenant))
        if applied.plan.operator_changes:
            environments.refresh()
        await _stop_the_suspended(sandbox, applied.snapshot)

    final = FinalBackups(FinalArchive(options.state_dir, clock), directory=directory)
    secrets, ring = SecretStore.from_environment(secrets_dir=options.secrets_dir), _key_ring(options)
    first = FirstRestore(options.state_dir, _serves(options), secrets=secrets, keys=ring, tokens=tokens, audit=audit)
    declared = await Declared.open(options, secrets=secrets, audit=audit, clock=clock, first=first)
    reconciling = _tasks("reconcile", stack)
    listeners: list[Listener] = [take_in, traced(traces), *by_hand(declared.place, audit, options.state_dir)]
    reconciler = Reconciler(
        tenants_dir=declared.directory, state_dir=options.state_dir, directory=directory, clock=clock,
        tasks=reconciling, on_change=listeners, environments=environments, states=environments.states,
        tokens=tokens, release=_release(sandbox, meter), audit=audit, metrics=metrics, version=__version__,
        here=_serves(options), backup=final,
    )  # fmt: skip
    stack.push_async_callback(reconciler.close)
    await reconciler.load()
    reconciling.start(reconciler.watch(), name="watch")
    declared.follow(reconciler, reconciling)
    vault = Vault(keys=ring, clock=clock)
    own = TenantSecrets(vault=vault, store=secrets)
    return _Ground(
        clock, metrics, secrets, directory, meter, audit, tokens, environments,
        KnownPackages(source, clock=clock, tasks=building), reconciler, sandbox, tried, cgroup, vault,
        own_vault(ring, clock), own, ring, declared, final, traces, options.state_dir, address, serving,
    )  # fmt: skip


async def _stop_the_suspended(sandbox: BwrapSandbox, snapshot: Snapshot) -> None:
    for tenant_id in {one.tenant for one in sandbox.kept()}:
        tenant = snapshot.tenants.get(tenant_id)
        if tenant is None or tenant.suspended:
            await sandbox.stop_tenant(tenant_id)


async def _record(options: GatewayOptions, clock: Clock, stack: AsyncExitStack) -> Audit:
    audit = Audit(
        state_dir=options.state_dir, clock=clock, mark=options.audit_mark, credentials_dir=_credentials(),
        secrets_dir=options.secrets_dir,
    )  # fmt: skip
    await audit.start()
    stack.push_async_callback(audit.close)
    return audit


def _credentials() -> Path | None:
    """Where systemd puts what it was given for this unit."""
    given = os.environ.get("CREDENTIALS_DIRECTORY")
    return Path(given) if given else None


def _release(sandbox: BwrapSandbox, meter: Metering) -> Callable[[Tenant], Awaitable[None]]:
    """Lets go of what is open of a tenant that is to be deleted."""

    async def release(tenant: Tenant) -> None:
        await sandbox.stop_tenant(tenant.id)
        await meter.forget(tenant.id)

    return release


def _serves(options: GatewayOptions) -> Callable[[TenantId], bool] | None:
    """Whose tenants are this gateway's, where it is one of several."""
    return Placement.model_validate_json(options.placement).serves if options.placement is not None else None


def _key_ring(options: GatewayOptions) -> KeyRing:
    return KeyRing(
        credentials_dir=_credentials(),
        secrets_dir=options.secrets_dir,
        state_dir=options.state_dir,
        makes=options.trial,
    )


@dataclass(frozen=True)
class _Talk:
    """What speaks with models, and keeps what was said."""

    providers: Providers
    relay: PassesOn
    guard: Guard
    grants: Grants
    access: Access
    snapshots: Snapshots
    sessions: Sessions
    agent_files: AgentFiles
    skills: Skills
    hub: Hub
    agents: ToldAgents
    sends: Sends
    keyed: Keyed
    responses: Responses
    terminals: Terminals
    connections: Connections
    mcp: McpProxy


def _build_talk(ground: _Ground, key: bytes, stack: AsyncExitStack) -> _Talk:
    """Build it; what is pushed last is closed first."""
    sandbox = ground.sandbox
    guard, providers, relay = _build_ways(ground, stack)
    grants = Grants(clock=ground.clock, tasks=_tasks("grants", stack), audit=ground.audit)
    access = Access(grants=grants, clock=ground.clock)
    egress = Egress(
        directory=ground.directory, clock=ground.clock, tasks=_tasks("egress", stack), metrics=ground.metrics,
        audit=ground.audit, secrets=ground.own_secrets, key=key,
        models=ModelHosts(directory=ground.directory, relay=relay, meter=ground.meter), grants=grants,
    )  # fmt: skip
    stack.push_async_callback(egress.close)
    snapshots = Snapshots(clock=ground.clock, removes=remove_workspace, measured=from_threads(ground.meter.measured))
    precautions = Precautions(snapshots=snapshots, sandbox=sandbox, clock=ground.clock)
    stack.callback(precautions.close)
    sessions = Sessions(clock=ground.clock, forgets=snapshots.forget)
    stack.push_async_callback(sessions.close)
    hub, agent_files = Hub(clock=ground.clock), AgentFiles()
    linking = Tasks("connections")
    stack.push_async_callback(linking.close)
    stack.push_async_callback(linking.drain, 5.0)
    outbound = Outbound(egress)
    egress.connections = connections = build_connections(
        outbound=outbound, vault=ground.linked, secrets=ground.secrets, directory=ground.directory,
        clock=ground.clock, hub=hub, audit=ground.audit, metrics=ground.metrics, tasks=linking, address=ground.address,
    )  # fmt: skip
    mcp = McpProxy(
        outside=outbound, secrets=ground.own_secrets, connections=connections, audit=ground.audit,
        metrics=ground.metrics, admits=ground.meter.admit_request, key=key,
    )  # fmt: skip
    egress.own = McpForSandboxes(mcp)
    skills = Skills(clock=ground.clock, hub=hub)
    turns = Agents(
        sessions=sessions, providers=providers, meter=ground.meter, sandbox=sandbox, environments=ground.environments,
        clock=ground.clock, tasks=_tasks("agents", stack), metrics=ground.metrics, egress=egress, access=access,
        precaution=precautions, limited=ground.meter.tool_ended, files=PromptFiles(agent_files, skills),
    )  # fmt: skip
    agents = ToldAgents(turns, hub)
    sends = Sends(agents, tasks=_tasks("sends", stack))
    once = OnceStore()
    stack.push_async_callback(once.close)
    keyed = Keyed(store=once, clock=ground.clock, tasks=_tasks("keyed", stack))
    responses = _build_responses(ground, stack)
    terminals = Terminals(
        state_dir=ground.state_dir, sandbox=sandbox, environments=ground.environments, egress=egress,
        directory=ground.directory, audit=ground.audit, hub=hub, clock=ground.clock,
        tasks=_tasks("terminals", stack),
    )  # fmt: skip
    stack.push_async_callback(terminals.close)
    return _Talk(
        providers, relay, guard, grants, access, snapshots, sessions, agent_files, skills, hub, agents, sends, keyed,
        responses, terminals, connections, mcp,
    )  # fmt: skip


def _build_ways(ground: _Ground, stack: AsyncExitStack) -> tuple[Guard, Providers, PassesOn]:
    """Both ways to a vendor, and what stands before them."""
    guard = Guard(ground.clock)
    ground.metrics.read_from(GAUGES, guard.gauges)
    providers = Providers(secrets=ground.secrets, clock=ground.clock, own=ground.own_secrets.of, guard=guard)
    stack.push_async_callback(providers.close)
    _tasks("sweep", stack).start(_sweep(providers), name="providers")
    relay = Relay(
        meter=ground.meter, secrets=ground.secrets, clock=ground.clock, tasks=_tasks("relay", stack),
        metrics=ground.metrics, own=ground.own_secrets.of,
    )  # fmt: skip
    stack.push_async_callback(relay.close)
    return guard, providers, HedgedRelay(GuardedRelay(relay, guard), guard, _tasks("hedges", stack))


def _build_responses(ground: _Ground, stack: AsyncExitStack) -> Responses:
    """What runs in the background ends first, then what settles it, then where it is written down."""
    runs, settling = Tasks("responses"), Tasks("settling")
    responses = Responses(clock=ground.clock, directory=ground.directory, tasks=runs, settling=settling)
    stack.push_async_callback(responses.close)
    stack.push_async_callback(settling.close, grace=3.0)
    stack.push_async_callback(runs.close, grace=3.0)
    return responses


def _build(
    options: GatewayOptions, ground: _Ground, key: bytes, starter: int, stack: AsyncExitStack
) -> _Rooms:  # fmt: skip
    """Build what serves; the server stops first, then what it called."""
    sandbox = ground.sandbox
    talk = _build_talk(ground, key, stack)
    administration = Administration(
        directory=ground.directory, tokens=ground.tokens, audit=ground.audit, reconciler=ground.reconciler,
        tenants_dir=options.tenants_dir, place=ground.declared.place,
    )  # fmt: skip
    settings = OwnSettings(
        state_dir=options.state_dir, directory=ground.directory, reconciler=ground.reconciler, audit=ground.audit
    )
    talk.grants.packages = packages = PackageChoice(
        settings=settings, environments=ground.environments, known=ground.known
    )
    ground.meter.told = QuotaWarnings(
        directory=ground.directory, hub=talk.hub, audit=ground.audit, tasks=_tasks("quota-warnings", stack)
    )
    house = House(ground.environments, sandbox, cgroup=ground.cgroup, guard=talk.guard)
    engines = build_engines(
        stack, state_dir=options.state_dir, directory=ground.directory, clock=ground.clock, hub=talk.hub,
        settings=settings, agent_files=talk.agent_files, sessions=talk.sessions, sends=talk.sends,
        embeds=Embedder(talk.relay), tokens=ground.tokens, skills=talk.skills, terminals=talk.terminals,
        channels=build_channels(
            stack, directory=ground.directory, clock=ground.clock, hub=talk.hub, audit=ground.audit,
            secrets=ground.own_secrets, sends=talk.sends, sessions=talk.sessions, meter=ground.meter,
            metrics=ground.metrics,
        ), connections=talk.connections, serving=ground.serving,
    )  # fmt: skip
    ground.reconciler.listen(engines.schedule.follow)
    services = Services(
        directory=ground.directory, tokens=ground.tokens, agents=talk.agents, sessions=talk.sessions,
        meter=ground.meter, relay=talk.relay, providers=talk.providers, administration=administration,
        reconciler=ground.reconciler,
        audit=ground.audit, metrics=ground.metrics, clock=ground.clock, starter_uid=starter, version=__version__,
        house=house, sandboxes=Sandboxes(sandbox=sandbox, audit=ground.audit),
        secrets=SecretKeeping(
            vault=ground.vault, audit=ground.audit, others=(ground.linked,)
        ),
        packages=packages, access=talk.access, hub=talk.hub, sends=talk.sends, keyed=talk.keyed,
        responses=talk.responses, engines=engines, mcp=talk.mcp,
        snapshots=SnapshotKeeping(snapshots=talk.snapshots, sandbox=sandbox, audit=ground.audit),
        disk=DiskUse(sandbox=sandbox, snapshots=talk.snapshots), host_names=options.names,
        backups=_backups(options, ground, talk, stack),
        history=History(past=ground.declared.place, reconciler=ground.reconciler, audit=ground.audit),
        git=ground.declared.service,
        changes=_changes(options, ground, stack), traces=ground.traces,
        quota_requests=QuotaRequests(
            clock=ground.clock, audit=ground.audit, declares=administration, hub=talk.hub
        ),
    )  # fmt: skip
    server = Server(services)
    stack.push_async_callback(server.stop, options.drain_seconds)
    return _Rooms(server, administration, sandbox, house, talk.terminals)


def _changes(options: GatewayOptions, ground: _Ground, stack: AsyncExitStack) -> Changes:
    keys = ControlOnceStore(options.state_dir)
    stack.push_async_callback(keys.close)
    return Changes(keys=keys, clock=ground.clock, tasks=_tasks("changes", stack))


def _backups(options: GatewayOptions, ground: _Ground, talk: _Talk, stack: AsyncExitStack) -> BackupKeeping:
    tasks = _tasks("backups", stack)
    house = TenantAtRest(
        meter=ground.meter, reconciler=ground.reconciler, sandbox=ground.sandbox, sessions=talk.sessions,
        tokens=ground.tokens, grants=talk.grants, tenants_dir=options.tenants_dir,
        home=options.state_dir / "tenants",
    )  # fmt: skip
    service = Backups(
        state_dir=options.state_dir, directory=ground.directory, clock=ground.clock, keys=ground.ring,
        secrets=ground.secrets, house=house, metrics=BackupMetrics(ground.metrics.registry, ground.clock),
    )  # fmt: skip
    stack.callback(service.close)
    ground.final.service = service
    return keep_backups(service, directory=ground.directory, clock=ground.clock, audit=ground.audit, tasks=tasks)


def _tasks(owner: str, stack: AsyncExitStack) -> Tasks:
    tasks = Tasks(owner)
    stack.push_async_callback(tasks.close, grace=3.0)
    return tasks


async def _sweep(providers: Providers) -> None:
    """Give back the connections of providers that nobody has used for a while."""
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        await providers.sweep()


async def _first_token(ground: _Ground, administration: Administration) -> str | None:
    """A token for the demo tenant where it is served and has none yet."""
    tenant = ground.directory.current.tenants.get(DEMO)
    if tenant is None or tenant.suspended or list(ground.tokens.list(tenant)):
        return None
    order = TokenIssue(name="default", scopes=("chat", "rpc", "admin"))
    try:
        issued = await administration.token_issue(
            DEMO, order, by=Actor(name=f"uid:{os.getuid()}", request_id=new_request_id())
        )
    except Conflict:
        return None
    except CarrelError as error:
        # One tenant's files, or a disk that is full for now, are no reason to serve nobody.
        _log.error("no token of demo's can be issued", reason=error.message)
        return None
    return issued.token


def _notes(ring: KeyRing) -> tuple[str, ...]:
    """What whoever starts the gateway should know besides."""
    try:
        ring.source()
    except MasterKeyUnusable as error:
        _log.error("secrets in the vault do not open", reason=error.message)
        return (f"secrets in the vault do not open: {error.message}",)
    return ()


def _runtime_notes(house: House) -> Iterator[str]:
    """Which OCI runtimes work. A mode whose runtime does not is refused at each run, and nothing else is."""
    for name, problem in house.runtimes.items():
        if problem is not None:
            _log.error("modes of this runtime run nothing", runtime=name, reason=problem)
        yield f"runtime {name} works" if problem is None else f"runtime {name} runs nothing: {problem}"


def _announcement(
    options: GatewayOptions, port: int, ground: _Ground, house: House, *, token: str | None, notes: tuple[str, ...]
) -> Announcement:
    tenants = ground.directory.current.tenants
    demo = tenants.get(DEMO)
    host = f"[{options.host}]" if ":" in options.host else options.host
    return Announcement(
        url=f"http://{host}:{port}",
        state_dir=options.state_dir,
        tenants_dir=options.tenants_dir,
        tenants=declared(tenants.values()),
        userland=ground.environments.summary(),
        sandbox=house.sandbox,
        notes=notes,
        token=token,
        token_tenant=DEMO if demo is not None and not demo.suspended else None,
        state_named=options.state_named,
        by_git=options.git is not None,
    )
