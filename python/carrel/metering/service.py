"""The meter: lets model calls through or refuses them, and writes down what they cost.

A call holds its worst case before it is made, so that no number of calls at once passes a hard quota. It is settled
once; the caller sees the end of the answer after its row is on the disk.
"""

import asyncio
import json
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from carrel.clock import Clock
from carrel.declare.rate_card import RateCard, Tier, TokenCounts
from carrel.durability import make_directory
from carrel.errors import CarrelError, InvalidRequest
from carrel.ids import SessionId, TenantId
from carrel.metering.account import Account, Hold, Limits, QuotaState, Window
from carrel.metering.book import LedgerBook
from carrel.metering.invoice import Invoice, invoice
from carrel.metering.journal import SEGMENT_BYTES, Journal
from carrel.metering.ledger import LedgerEntry
from carrel.metering.protocol import Call, Outcome, ToolEnding
from carrel.metering.recount import Counting, Recount
from carrel.metering.recovery import read_journal
from carrel.metering.report import ReportRow, UsageTotals, rows_of, split_rows, to_csv, totals_of
from carrel.metering.rollups import Split
from carrel.metering.rows import (
    DAY,
    TIERS,
    Tariff,
    clean_counts,
    clean_provider_id,
    micros,
    moment,
    opened_line,
    settled_line,
)
from carrel.metering.standing import Standing
from carrel.metering.warnings import SoftWarning, Told, window_end
from carrel.policy.estimate import believable
from carrel.policy.periods import Period
from carrel.policy.pricing import Price, plain, price_for
from carrel.policy.quota import Refusal
from carrel.store.sqlite import OPEN_DATABASES
from carrel.tasks import Tasks
from carrel.telemetry import Metrics
from carrel.tenancy.handle import Snapshot, Tenant

_log = structlog.get_logger(__name__)
ACCOUNTS_KEPT: Final = 4096
MAX_PAGE: Final = 1000


class Metering:
    """One gateway's meter; see `metering.protocol`. `start` it before use, `close` it last."""

    def __init__(
        self,
        *,
        state_dir: Path,
        clock: Clock,
        tasks: Tasks,
        metrics: Metrics,
        open_ledgers: int = OPEN_DATABASES,
        segment_bytes: int = SEGMENT_BYTES,
        sync: Callable[[int], None] = os.fdatasync,
        serving: asyncio.Event | None = None,
    ) -> None:
        self._directory = state_dir / "metering"
        self._clock = clock
        self._metrics = metrics
        self._tasks = tasks
        self._journal = Journal(self._directory, clock=clock, tasks=tasks, segment_bytes=segment_bytes, sync=sync)
        self._book = LedgerBook(
            state_dir, self._journal, clock=clock, tasks=tasks, metrics=metrics, open_ledgers=open_ledgers
        )
        self._accounts: OrderedDict[TenantId, Account] = OrderedDict()
        self._loading: dict[TenantId, asyncio.Task[None]] = {}
        self._tariffs: dict[tuple[str, bool, Tier | None, str], tuple[RateCard, Tariff]] = {}
        self._tariff_number = 0
        self._unpriced: set[str] = set()
        self._standing = Standing(self._directory)
        self.told: Told | None = None
        self._serving = serving
        self._run_id = os.urandom(8).hex()
        self._calls = 0
        self._latest = clock.micros()

    async def start(self) -> None:
        """Take over what an earlier run left in the journal, and begin. A full disk is said in the log, not raised.

        Its rows come into their ledgers once the gateway is serving, each tenant's at the latest when it asks or calls.
        To open a thousand ledgers takes seconds, which nobody waits for.
        """
        now = self._clock.micros()
        make_directory(self._directory)
        found = await asyncio.to_thread(read_journal, self._directory, now=now)
        await asyncio.to_thread(self._standing.open, now=self._clock.monotonic(), wall=self._clock.now())
        last = 0
        for row in found.rows:
            last = self._journal.next_sequence()
            self._book.add(last, row.tenant, row.values)
        self._journal.continue_after((path, last) for path in found.files)
        put_by = await self._book.take_up()
        if put_by:
            _log.warning("rows wait for ledgers that took none", rows=put_by)
        if found.rows:
            _log.info("rows of an earlier run", rows=len(found.rows), interrupted=found.interrupted)
        try:
            await self._journal.prepare()
        except CarrelError as error:
            _log.error("no model calls are taken yet", error=error.message)
        self._book.start(self._serving)

    async def close(self) -> None:
        """Write everything down. Calls that are still open stay in the journal, for the next start."""
        await self._book.close()
        await self._journal.close()
        self._standing.close()

    async def admit_request(self, tenant: Tenant) -> None:
        """Count one request against the request quotas; raises QuotaExceeded."""
        account = self._account(tenant)
        if not account.limits.requests:
            return
        wall = self._clock.now()
        refusal, soft = account.admit(self._clock.monotonic(), wall)
        if refusal is not None:
            raise self._refused(tenant, refusal)
        self._standing.counted(tenant.id, account, now=self._clock.monotonic(), wall=wall)
        self._warn(tenant.id, account, soft, wall)

    async def reserve(self, tenant: Tenant, snapshot: Snapshot, call: Call) -> "HeldCall":
        """Hold the worst case of ``call``.

        Raises QuotaExceeded, InvalidRequest for a model with no price, StorageFailed while rows cannot be written.
        """
        self._book.check(tenant.id)
        if call.max_input < 0 or call.max_output < 0:
            raise InvalidRequest("A call uses no fewer than 0 tokens.")
        tariff = self._tariff(snapshot, call, tenant.config.plan or "")
        started = self._stamp()
        account = self._account(tenant)
        while not account.knows(started):
            await self._load(tenant.id, account, started)
            account = self._account(tenant)
        worst = tariff.worst(call.max_input, call.max_output, asked=call.tier)
        held, soft = account.hold(call.max_input + call.max_output, worst, started)
        if isinstance(held, Refusal):
            raise self._refused(tenant, held)
        self._calls += 1
        row_id = f"{self._run_id}{self._calls:012x}"
        line = opened_line(row_id, tenant.id, started, call, tariff.number, member=tenant.member)
        try:
            if not self._journal.opens(row_id, line, tariff):
                await self._journal.open(row_id, line, tariff)
        except BaseException:
            account.release(held)
            raise
        if soft:
            self._warn(tenant.id, account, soft, moment(started))
        return HeldCall(self, row_id, tenant.id, started, call, tariff, account, held, tenant.member or "")

    async def report(self, tenant: Tenant, period: Period, *, split: Split | None = None) -> list[ReportRow]:
        """The period's rows by day and model, and by agent, session or member; what was settled before is in them."""
        if split is not None:
            return split_rows(tenant.id, await self._book.sums_split(tenant.id, period, split))
        return rows_of(tenant.id, await self._book.sums(tenant.id, period))

    async def invoice(self, tenant: Tenant, snapshot: Snapshot, period: Period) -> Invoice:
        """Every charge of the period with its arithmetic; the monthly fee is that of the plan in force."""
        plan = tenant.config.plan or ""
        on = snapshot.plans.plans.get(plan)
        sums = await self._book.charged(tenant.id, period)
        billing = None if on is None else on.billing
        return invoice(sums, period, plan=plan, billing=billing, billed_from=tenant.config.billed_from)

    async def recount(self, tenant: Tenant) -> Recount:
        """Every call of the tenant's ledger counted anew, and held against the sums that reports are made of."""
        return await self._book.recount(tenant.id)

    def counting(self, tenant: Tenant) -> Counting | None:
        """How far the recount of the tenant's ledger is that runs or waits, None where none does."""
        return self._book.counting(tenant.id)

    async def csv(self, tenant: Tenant, period: Period) -> str:
        """The report as CSV."""
        return to_csv(await self.report(tenant, period))

    async def usage(self, tenant: Tenant, period: Period) -> UsageTotals:
        """What the period's rows add up to."""
        return totals_of(await self.report(tenant, period))

    async def rows(
        self, tenant: Tenant, period: Period, *, cursor: str | None = None, limit: int = 100
    ) -> tuple[list[LedgerEntry], str | None]:
        """A page of the ledger in the order of time, and the cursor of the next, None at the end."""
        size = min(max(limit, 1), MAX_PAGE)
        found = await self._book.entries(tenant.id, period, after=_place(cursor), limit=size)
        after = f"{found[-1][0][0]}.{found[-1][0][1]}" if len(found) == size else None
        return [entry for _, entry in found], after

    async def quota_status(self, tenant: Tenant) -> Sequence[QuotaState]:
        """Every quota that is declared for the tenant, with what is used and held of it now."""
        at = self._stamp()
        account = self._account(tenant)
        while not account.knows(at):
            await self._load(tenant.id, account, at)
            account = self._account(tenant)
        return account.status(self._clock.monotonic(), at)

    async def tool_ended(self, tenant: Tenant, it: ToolEnding) -> None:
        """Write beside the tenant's calls that a limit ended a tool of theirs. Where it cannot be, the log says so."""
        try:
            await self._book.note(tenant.id, self._stamp(), it)
        except CarrelError as error:
            _log.error("a tool's ending is not in the ledger", tenant=tenant.id, ending=it.ending, error=error.message)

    async def flush(self) -> None:
        """Write every settled row into its ledger now."""
        await self._book.flush_all()

    async def forget(self, tenant: TenantId) -> None:
        """Let go of a tenant's ledger, before its directory is moved or removed."""
        await self._book.forget(tenant)
        self._forget_account(tenant)

    async def rest(self, tenant: TenantId) -> None:
        """The same, and leave its directory alone until `wake`."""
        await self._book.rest(tenant)
        self._forget_account(tenant)

    async def wake(self, tenant: TenantId) -> None:
        """Go on with the directory that the tenant has now."""
        await self._book.wake(tenant)
        self._forget_account(tenant)

    def _forget_account(self, tenant: TenantId) -> None:
        account = self._accounts.get(tenant)
        if account is not None and not account.open_calls and not account.sessions:
            del self._accounts[tenant]

    def settle(
        self,
        call: "HeldCall",
        usage: TokenCounts,
        *,
        outcome: Outcome,
        provider_request_id: str | None,
        tool_calls: int,
        estimated: bool,
    ) -> asyncio.Future[None] | None:
        """Write the row of ``call`` to the journal: done when the future is; None where the disk takes nothing now."""
        asked = call.call
        counts = clean_counts(usage)
        total = counts.total
        if total > call.hold.tokens:
            counts, doubted = self._doubted(call, counts)
            estimated, total = estimated or doubted, counts.total
        tariff = call.tariff
        price = self._price(call, counts.served) if counts.served else tariff.price
        cost = price.cost(counts)
        values = (
            call.id, call.started, self._clock.micros(), asked.request_id, clean_provider_id(provider_request_id),
            asked.session_id or "", asked.agent or "", asked.model, counts.input, counts.cache_read, counts.cache_write,
            counts.output, counts.reasoning, min(max(tool_calls, 0), 1_000_000) if tool_calls else 0, plain(cost),
            outcome, int(asked.byo), int(estimated), call.member, counts.cache_write_1h, tariff.card_hash,
            price.snapshot, tariff.plan, tariff.plan_hash,
        )  # fmt: skip
        number, waiter = self._journal.settle(call.id, settled_line(values, counts.served))
        call.account.use(call.hold, total, cost)
        if call.account.over_totals:
            self._warn(call.tenant, call.account, call.account.over_totals, moment(self._stamp()))
        self._book.add(number, call.tenant, values)
        return waiter

    def _price(self, call: "HeldCall", served: Tier | None) -> Price:
        """The price of a call by what its vendor says it was served at."""
        price, model = call.tariff.priced(served), call.call.model
        if served == "priority" and json.loads(price.snapshot).get("tier") != served and model not in self._unpriced:
            self._unpriced.add(model)
            _log.warning("a vendor served a call before others, which the rate card has no rates for", model=model)
        return price

    def _doubted(self, call: "HeldCall", said: TokenCounts) -> tuple[TokenCounts, bool]:
        """What is charged of a usage beyond the worst case, and whether it is another than the vendor said."""
        asked = call.call
        charged = believable(said, max_input=asked.max_input, max_output=asked.max_output)
        _log.warning(
            "a call used more than its worst case" if charged == said else "a usage that no call can have",
            tenant=call.tenant, request_id=asked.request_id, model=asked.model, used=said.total, held=call.hold.tokens,
            charged=charged.total,
        )  # fmt: skip
        return charged, charged != said

    def not_kept(self) -> CarrelError:
        """What the caller of a settled call is told while the disk takes no row."""
        failed = self._journal.failed
        return type(failed)(f"{failed.message} This call was made, and its ledger row is kept in memory until then.")

    def _account(self, tenant: Tenant) -> Account:
        account = self._accounts.get(tenant.id)
        quotas = tenant.config.quotas
        if account is None:
            account = self._accounts[tenant.id] = Account(Limits.of(quotas))
            self._standing.adopt(tenant.id, account)
            self._let_go()
        elif account.limits.source is not quotas:
            account.follow(quotas)
        return account

    def _let_go(self) -> None:
        """Forget accounts that nothing happened in for long; the ledger knows what they knew."""
        now = self._clock.monotonic()
        for _ in range(4):
            if len(self._accounts) <= ACCOUNTS_KEPT:
                return
            tenant, account = next(iter(self._accounts.items()))
            if account.idle(now) and tenant not in self._loading:
                del self._accounts[tenant]
            else:
                self._accounts.move_to_end(tenant)

    async def _load(self, tenant: TenantId, account: Account, at: int) -> None:
        loading = self._loading.get(tenant)
        if loading is None:
            loading = self._loading[tenant] = self._tasks.start(self._learn(tenant, account, at), name="account")
            loading.add_done_callback(lambda _: self._loading.pop(tenant, None))
        await asyncio.shield(loading)

    async def _learn(self, tenant: TenantId, account: Account, at: int) -> None:
        day = moment(at).date()
        sums = await self._book.sums(tenant, Period(day.replace(day=1), day.replace(day=28) + timedelta(days=3)))
        of_day, of_month = Window(), Window()
        for (found, _), total in sums.items():
            if (found.year, found.month) == (day.year, day.month):
                of_month.use(total.counts.total, total.cost)
            if found == day:
                of_day.use(total.counts.total, total.cost)
        account.learn(day, of_day, of_month)

    def _tariff(self, snapshot: Snapshot, call: Call, plan: str) -> Tariff:
        plan_hash = snapshot.plan_hashes.get(plan, "")
        key = (call.model, call.byo, call.tier, plan)
        known = self._tariffs.get(key)
        if known is not None and known[0] is snapshot.rate_card and known[1].plan_hash == plan_hash:
            return known[1]
        on = snapshot.plans.plans.get(plan)
        at = partial(
            price_for, snapshot.rate_card, call.model, byo=call.byo, billing=None if on is None else on.billing
        )
        price = at(tier=call.tier)
        others = tuple((tier, other) for tier in TIERS if (other := at(tier=tier)) != price)
        tariff = Tariff(self._tariff_number, price, snapshot.rate_card_hash, plan, plan_hash, others)
        if known is not None and replace(known[1], number=tariff.number) == tariff:
            tariff = known[1]
        else:
            self._tariff_number += 1
            tariff = replace(tariff, number=self._tariff_number)
        self._tariffs[key] = (snapshot.rate_card, tariff)
        return tariff

    def _stamp(self) -> int:
        """The time that a row is given, in microseconds. It does not go back over midnight by a day or less.

        A clock set back would open a day again whose quota is used up. One that is set back further was wrong before,
        and is followed: the ledger knows what was used on the day that it returns to.
        """
        at = self._clock.micros()
        latest = self._latest
        if at >= latest:
            self._latest = at
            return at
        back = latest // DAY - at // DAY
        if not back:
            return at
        if back == 1:
            return latest
        _log.warning("the clock was set back by more than a day", to=moment(at).isoformat())
        self._latest = at
        return at

    def _refused(self, tenant: Tenant, refusal: Refusal) -> CarrelError:
        self._metrics.refused(tenant.id, quota=refusal.quota)
        return refusal.error()

    def soft_passed(self, tenant: TenantId) -> tuple[str, ...]:
        """The soft quotas that a tenant has passed, by its last request, call and measure, and its sessions of now."""
        account = self._accounts.get(tenant)
        return () if account is None else account.over

    def measured(self, tenant: Tenant, quota: str, used: int) -> None:
        """Note what is used of a quota of the disk or of sandboxes; a soft limit that it passes is told of."""
        account = self._account(tenant)
        soft = account.limits.measured.get(quota)
        if soft is None:
            account.measured.pop(quota, None)
            return
        account.measured[quota] = used
        if used > soft:
            self._tell(tenant.id, account, quota, self._clock.now(), lambda: (used, soft))

    @contextmanager
    def session(self, tenant: Tenant, session_id: SessionId) -> Iterator[None]:
        """Count a turn in a session for as long as the block lasts; raises QuotaExceeded where too many have one."""
        account, wall = self._account(tenant), self._clock.now()
        refusal = account.enter(session_id, wall)
        if refusal is not None:
            raise self._refused(tenant, refusal)
        soft, running = account.limits.sessions.soft, len(account.sessions)
        if soft is not None and running > soft:
            self._tell(tenant.id, account, "concurrent_sessions", wall, lambda: (running, soft))
        try:
            yield
        finally:
            account.leave(session_id)

    def _warn(self, tenant: TenantId, account: Account, soft: Sequence[str], wall: datetime) -> None:
        for quota in soft:
            used = partial(account.used_of, quota, self._clock.monotonic(), micros(wall))
            self._tell(tenant, account, quota, wall, used)

    def _tell(
        self, tenant: TenantId, account: Account, quota: str, wall: datetime,
        amounts: Callable[[], tuple[int | Decimal, int | Decimal]],
    ) -> None:  # fmt: skip
        end = window_end(quota, wall)
        if not account.first_warning(quota, micros(wall), micros(end)):
            return
        self._standing.warned(tenant, quota, micros(end))
        used, soft = amounts()
        _log.warning("a soft quota is passed", tenant=tenant, quota=quota, used=str(used), soft=str(soft))
        self._metrics.warned(tenant, quota=quota)
        if self.told is not None:
            self.told(SoftWarning(tenant, quota, used, soft, end))


@dataclass(eq=False, slots=True)
class HeldCall:
    """A call that was let through, with what it holds. Settle it once."""

    meter: Metering
    id: str
    tenant: TenantId
    started: int
    call: Call
    tariff: Tariff
    account: Account
    hold: Hold
    member: str = ""
    settled: bool = False

    async def settle(
        self,
        usage: TokenCounts,
        *,
        outcome: Outcome,
        provider_request_id: str | None = None,
        tool_calls: int = 0,
        estimated: bool = False,
    ) -> None:
        """Write the row; returns when it is on the disk. It is written also where the caller is cancelled meanwhile.

        Raises StorageFailed where the disk takes nothing: the row is kept and written as soon as it does.
        """
        if self.settled:
            return
        self.settled = True
        waiter = self.meter.settle(
            self, usage, outcome=outcome, provider_request_id=provider_request_id, tool_calls=tool_calls,
            estimated=estimated,
        )  # fmt: skip
        if waiter is None:
            raise self.meter.not_kept()
        await waiter


def _place(cursor: str | None) -> tuple[int, int] | None:
    if cursor is None:
        return None
    started, dot, seq = cursor.partition(".")
    if not (dot and started.isascii() and started.isdigit() and seq.isascii() and seq.isdigit() and len(cursor) < 40):
        raise InvalidRequest("That cursor is none of ours: leave it out to start at the first row.", param="cursor")
    return int(started), int(seq)
