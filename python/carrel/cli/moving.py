"""`carrel tenants export` and `import`: a tenant as one file, and tenants of other systems."""

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final

from cyclopts import Parameter

from carrel.cli import screen
from carrel.cli.backups import LONGEST_SECONDS, watched
from carrel.cli.client import Client, ask, request, understand
from carrel.cli.conversion import Conversion, Converts, Looks, Reverses
from carrel.cli.failures import DONE, FAILED, Refused, WrongUsage
from carrel.cli.options import HERE, OR_STANDARD, Target
from carrel.cli.orders import order, tenant_path
from carrel.cli.tenants import TenantArgument
from carrel.errors import CarrelError
from carrel.wire import backups as wire
from carrel.wire import control

STANDARD: Final = Path("-")
_SHOWN: Final = 40
_NAMED: Final = 3
_ORDER: Final = ("refused", "left", "changed", "taken")


class MovingCommands:
    """The commands; ``converts`` and ``reverses`` know the other system's layout, ``looks`` what an archive holds."""

    def __init__(self, converts: Converts, reverses: Reverses, looks: Looks) -> None:
        self._converts = converts
        self._reverses = reverses
        self._looks = looks

    def by_word(self) -> Mapping[str, Callable[..., int]]:
        """Each by its word after `tenants`."""
        return {"export": self.export, "import": self.import_}

    def export(
        self,
        tenant: TenantArgument,
        /,
        *,
        to: Annotated[
            str | None,
            OR_STANDARD,
            Parameter(
                help="The file, new: ID.tar.gz by default; `-` for standard output. Or a place that the gateway sends "
                "it to, as it does backups: `s3://bucket/prefix/NAME.tar.gz`, `file:///directory/NAME.tar.gz`; what "
                "ends in `/` is given a name by ID and time."
            ),
        ] = None,
        replace: Annotated[
            bool, Parameter(negative=(), show_default=False, help="Replace the archive that is at that place.")
        ] = False,
        as_openclaw: Annotated[
            Path | None, Parameter(help="A new directory instead, laid out as OpenClaw's state directory is.")
        ] = None,
        target: Target = HERE,
    ) -> int:
        """Write all that a tenant has into one file, while it works. Its secrets stay sealed by the master key."""
        path = tenant_path(tenant, "export")
        if to is not None and _is_place(to) and as_openclaw is None:
            return _send(target, tenant, to, replace=replace)
        if replace:
            raise WrongUsage("--replace goes with --to and a place: a file is always a new one.")
        if as_openclaw is not None:
            if to is not None:
                raise WrongUsage("--to and --as-openclaw are two forms: say one of them.")
            with tempfile.TemporaryDirectory(prefix="carrel-export-") as place:
                archive = Path(place) / "archive.tar.gz"
                _download(target, path, archive)
                report = self._reverses(archive, as_openclaw)
            _show_report(target, tenant, report, f"{tenant} is in {as_openclaw}.")
            return DONE
        file = Path(to or f"{tenant}.tar.gz")
        if file == STANDARD:
            _pour(target, path)
            return DONE
        _download(target, path, file)
        if target.json:
            screen.show_json({"tenant": tenant, "file": str(file), "bytes": file.stat().st_size})
        else:
            screen.say(f"{tenant} is in {file}, {file.stat().st_size} bytes.")
            screen.note("Keep the master key with it: its secrets open with that alone.")
        return DONE

    def import_(
        self,
        file: Annotated[
            str | None,
            OR_STANDARD,
            Parameter(
                name="FILE",
                help="What `carrel tenants export` wrote; `-` for standard input. Or a place that the gateway fetches "
                "it from: `s3://bucket/prefix/NAME.tar.gz`, `file:///directory/NAME.tar.gz`.",
            ),
        ] = None,
        /,
        *,
        from_openclaw: Annotated[
            Path | None,
            Parameter(
                help="The state directory of OpenClaw instead, or of its multi-tenant fork with all its tenants."
            ),
        ] = None,
        as_id: Annotated[
            str | None, Parameter(name="--as", help="The tenant's id here; declared where it is not yet.")
        ] = None,
        replace: Annotated[
            bool, Parameter(negative=(), show_default=False, help="Replace what the tenant has; that is kept beside.")
        ] = False,
        dry_run: Annotated[
            bool, Parameter(negative=(), show_default=False, help="Only say what would be taken, changed and left.")
        ] = False,
        require_seal: Annotated[
            bool,
            Parameter(
                negative=(),
                show_default=False,
                help="Refuse a FILE without the seal of a master key that is here: one that others could change.",
            ),
        ] = False,
        target: Target = HERE,
    ) -> int:
        """Take a tenant in, whole or not at all. The same again changes nothing."""
        if (file is None) == (from_openclaw is None):
            raise WrongUsage("Name a file that an export wrote, or --from-openclaw with a directory.")
        if file is not None:
            if as_id is None:
                raise WrongUsage("--as names the tenant that it becomes.")
            if _is_place(file):
                return _fetch(target, as_id, file, replace=replace, sealed=require_seal, dry_run=dry_run)
            with _standard_input(Path(file)) as archive:
                return self._import_file(
                    target, as_id, archive, replace=replace, sealed=require_seal, dry_run=dry_run
                )  # fmt: skip
        if require_seal:
            raise WrongUsage("--require-seal goes with a FILE.")
        assert from_openclaw is not None  # noqa: S101 - one of the two, see above
        with tempfile.TemporaryDirectory(prefix="carrel-import-") as place:
            found = self._converts(from_openclaw, Path(place), as_id)
            if dry_run:
                for one in found:
                    _show_report(target, one.tenant, one.report, f"{one.tenant} would be made of {from_openclaw}.")
                return DONE
            return _import_all(target, found, replace=replace)

    def _import_file(
        self, target: Target, tenant: str, file: Path, *, replace: bool, sealed: bool, dry_run: bool
    ) -> int:
        if not _is_declared(target, tenant):
            wanted = _creation(tenant, None)
            # Judged before anybody is declared for it: a file that is no whole one leaves nothing behind.
            seen = self._looks(file, tenant)
            if dry_run:
                screen.note(f"{tenant} is not declared yet: the import declares it.")
                return _show_taken(target, seen, here=True)
            request(target, "POST", "/v1/tenants", wanted)
            with _told_empty(tenant):
                return _show_taken(target, _take_in(target, tenant, file, replace=replace, sealed=sealed))
        return _show_taken(
            target, _take_in(target, tenant, file, replace=replace, sealed=sealed, dry_run=dry_run)
        )  # fmt: skip


def _is_place(text: str) -> bool:
    """Whether it names what the gateway reaches, and no file of whoever asks."""
    return text.startswith(("s3://", "file://"))


def _send(target: Target, tenant: str, to: str, *, replace: bool) -> int:
    wanted = order(wire.ExportOrder, {"to": to, "replace": replace})
    document = watched(target, tenant, "export", wanted)
    if target.json:
        screen.show_json(document)
        return DONE
    done = understand(wire.ExportView, document)
    screen.say(f"{tenant} is in {done.place}, {done.bytes} bytes.")
    left = f", {screen.many(done.left_out, 'name')} left out" if done.left_out else ""
    screen.note(f"{screen.many(done.files, 'file')}{left}; SHA-256 {done.sha256}.")
    screen.note("Keep the master key with it: its secrets open with that alone.")
    return DONE


def _fetch(target: Target, tenant: str, place: str, *, replace: bool, sealed: bool, dry_run: bool) -> int:
    if not _is_declared(target, tenant):
        wanted = _creation(tenant, None)
        # Judged before anybody is declared for it, as a file is.
        looked = order(wire.LookOrder, {"place": place, "tenant": tenant, "sealed": sealed})
        seen = request(target, "POST", "/v1/archives/look", looked, patience=LONGEST_SECONDS)
        if dry_run:
            screen.note(f"{tenant} is not declared yet: the import declares it.")
            return _show_taken(target, understand(wire.ImportView, seen))
        request(target, "POST", "/v1/tenants", wanted)
    said = {"place": place, "replace": replace, "sealed": sealed, "dry_run": dry_run}
    document = watched(target, tenant, "import/from", order(wire.FetchOrder, said))
    return _show_taken(target, understand(wire.ImportView, document))


def _import_all(target: Target, found: Sequence[Conversion], *, replace: bool) -> int:
    """Each by itself: one that fails keeps no other out."""
    failed = 0
    for one in found:
        try:
            _import(target, one, replace=replace)
        except CarrelError as error:
            if len(found) == 1:
                raise
            failed += 1
            screen.complain(f"{one.tenant}: {error.message}")
    return FAILED if failed else DONE


def no_looks(archive: Path, tenant: str) -> wire.ImportView:
    """Where nobody handed down how an archive is judged."""
    raise Refused(f"{archive} cannot be judged here before {tenant} is declared.", code="not_found")


def _import(target: Target, one: Conversion, *, replace: bool) -> None:
    if _is_declared(target, one.tenant):
        done = _take_in(target, one.tenant, one.archive, replace=replace)
    else:
        _declare(target, one.tenant, one.display_name)
        with _told_empty(one.tenant):
            done = _take_in(target, one.tenant, one.archive, replace=replace)
    told = [*_settle(target, one), *_seal(target, one)]
    if target.json:
        screen.show_json({**done.model_dump(mode="json"), "settings": told, "report": one.report})
        return
    text = f"{one.tenant} is as it was imported: nothing was changed." if done.unchanged else (
        f"{one.tenant} is here: {screen.many(done.files, 'file')}, {screen.many(done.sessions, 'session')}."
    )  # fmt: skip
    _show_report(target, one.tenant, one.report, text)
    for line in told:
        screen.note(line)
    _show_kept(done)


@contextmanager
def _told_empty(tenant: str) -> Iterator[None]:
    """What is not taken in leaves a tenant that was declared for it: say so, for nothing else would."""
    try:
        yield
    except CarrelError:
        screen.note(
            f"{tenant} was declared for it, and is empty: import again, or `carrel tenants remove {tenant}`."
        )  # fmt: skip
        raise


def _is_declared(target: Target, tenant: str) -> bool:
    listed = understand(control.TenantList, request(target, "GET", "/v1/tenants"))
    return tenant in {one.id for one in listed.tenants}


def _declare(target: Target, tenant: str, display_name: str | None) -> None:
    request(target, "POST", "/v1/tenants", _creation(tenant, display_name))


def _creation(tenant: str, display_name: str | None) -> control.TenantCreate:
    order = {"id": tenant, "display_name": display_name, "issue_token": False}
    try:
        return control.TenantCreate.model_validate(order)
    except ValueError:
        raise WrongUsage(f"--as {tenant}: an id is lower-case letters, digits, `_` and `-`, 32 at most.") from None


def _settle(target: Target, one: Conversion) -> list[str]:
    """Put the agents into the tenant's overlay, each by itself: one that is not allowed here keeps no other out."""
    before = _rpc(target, one.tenant, "config.get", {}).get("overlay", {}).get("agents", {})
    told = []
    for agent in one.agents:
        skills = {"skills": list(agent.skills)} if agent.skills else {}
        tries: list[dict[str, Any]] = [{**skills, "model": name} for name in _names_of(agent.model)]
        had = before.get(agent.id)
        if had is not None and any(had == one_try for one_try in [*tries, skills]):
            continue
        why = ""
        for settings in [*tries, skills]:
            try:
                _rpc(target, one.tenant, "config.patch", {"patch": {"agents": {agent.id: settings}}})
            except CarrelError as error:
                why = error.message
                continue
            if agent.model is not None and "model" not in settings:
                told.append(f"{agent.id} is on the default model, for {agent.model} is not to be had here.")
            break
        else:
            told.append(f"{agent.id} could not be set up: {why}")
    return told


def _names_of(model: str | None) -> Sequence[str]:
    """How a model may be called here: as there, and without its provider."""
    return () if model is None else tuple(dict.fromkeys((model.partition("/")[2] or model, model)))


def _seal(target: Target, one: Conversion) -> list[str]:
    """Put the secrets into the vault; those of a name that is there already stay as they are."""
    if not one.secrets:
        return []
    listed = understand(control.SecretList, request(target, "GET", tenant_path(one.tenant, "secrets")))
    there = {secret.name for secret in listed.secrets}
    told = []
    for name, value in one.secrets.items():
        if name in there:
            continue
        try:
            order = control.SecretPut.model_validate({"value": value})
            body = json.dumps({"value": order.value.get_secret_value()}).encode()
            request(target, "PUT", tenant_path(one.tenant, "secrets", name), body)
        except CarrelError as error:
            told.append(f"The secret {name} is not kept: {error.message}")
        except ValueError:
            told.append(f"The secret {name} is not kept: it is too long, or none.")
    return told


def _rpc(target: Target, tenant: str, method: str, params: Mapping[str, Any]) -> Any:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    answer = request(target, "POST", tenant_path(tenant, "rpc"), body)
    if "error" in answer:
        raise Refused(str(answer["error"]["message"]), code=str(answer["error"].get("data", {}).get("code", "refused")))
    return answer["result"]


def _take_in(
    target: Target, tenant: str, file: Path, *, replace: bool, sealed: bool = False, dry_run: bool = False
) -> wire.ImportView:
    said = {"replace": replace, "sealed": sealed, "dry_run": dry_run}
    query = {name: "true" for name, is_so in said.items() if is_so}

    async def work(opened: BinaryIO) -> Any:
        async with Client(target) as client:
            return await client.upload(tenant_path(tenant, "import"), opened, query)

    try:
        with file.open("rb") as opened:
            return understand(wire.ImportView, ask(work(opened)))
    except OSError as error:
        raise Refused(f"{file} cannot be read: {error.strerror}.", code="unreadable") from error


@contextmanager
def _standard_input(file: Path) -> Iterator[Path]:
    """``file``, or a copy of standard input for as long as the block lasts: it is looked at more than once."""
    if file != STANDARD:
        yield file
        return
    with tempfile.NamedTemporaryFile(prefix="carrel-import-") as copy:
        shutil.copyfileobj(sys.stdin.buffer, copy)
        copy.flush()
        yield Path(copy.name)


def _pour(target: Target, path: str) -> None:
    if sys.stdout.isatty():
        raise WrongUsage("An archive is not for a terminal: send it to a file or a program.")

    async def work() -> None:
        async with Client(target) as client:
            await client.download(path, sys.stdout.buffer)

    ask(work())
    sys.stdout.buffer.flush()


def _download(target: Target, path: str, file: Path) -> None:
    """Write what is at ``path`` into the new ``file``; where it breaks off nothing is left."""

    async def work(opened: BinaryIO) -> None:
        async with Client(target) as client:
            await client.download(path, opened)

    try:
        with file.open("xb") as opened:
            try:
                file.chmod(0o600)
                ask(work(opened))
            except BaseException:
                file.unlink()
                raise
    except OSError as error:
        raise Refused(f"{file} cannot be written: {error.strerror}.", code="unwritable") from error


def _show_taken(target: Target, done: wire.ImportView, *, here: bool = False) -> int:
    """``here``: it was judged by this command, which has no master key to know a seal by."""
    if target.json:
        screen.show_json(done.model_dump(mode="json"))
        return DONE
    if done.unchanged:
        screen.say(f"{done.tenant} came from this very file: nothing {'would be' if done.dry_run else 'was'} changed.")
        return DONE
    would = "would be" if done.dry_run else "is"
    held = f"{screen.many(done.files, 'file')}, {screen.many(done.sessions, 'session')}"
    screen.say(f"{done.tenant} {would} here: {held}, of {done.source_tenant}.")
    if here and done.seal != "none":
        screen.note("The file bears a seal: whose it is, the import tells.")
    elif done.seal == "own":
        screen.note("The file bears this gateway's own seal: it is as it was written.")
    else:
        by = "no seal" if done.seal == "none" else "the seal of a master key that is not here"
        screen.note(f"The file bears {by}: that it is as it was written rests on where it came from.")
    if done.secrets_lost:
        names = ", ".join(map(screen.one_line, done.secrets_lost))
        screen.note(f"Not without the master key that sealed them: {names}. Set them anew with `carrel secrets set`.")
    if done.tokens_left_out:
        screen.note(f"Tokens are of another id: issue new ones with `carrel tenants token issue {done.tenant}`.")
    _show_kept(done)
    return DONE


def _show_kept(done: wire.ImportView) -> None:
    if done.kept_before and done.dry_run:
        screen.note("What is there would be kept beside.")
    elif done.kept_before:
        screen.note(
            f"What was there is kept: `carrel tenants restore {done.tenant} --confirm` lets it go, `--undo` brings it "
            "back."
        )


def _show_report(target: Target, tenant: str, report: Mapping[str, Any], text: str) -> None:
    if target.json:
        screen.show_json({"tenant": tenant, "report": report})
        return
    screen.say(text)
    counts = report["counts"]
    rows = [(kind, *(str(counts[kind].get(word, "")) for word in reversed(_ORDER))) for kind in sorted(counts)]
    screen.table(("WHAT", *(word.upper() for word in reversed(_ORDER))), rows)
    told = _alike(item for item in report["items"] if item.get("detail"))
    for (outcome, kind, detail), names in told[:_SHOWN]:
        more = f", and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        screen.note(f"{outcome}: {kind} {', '.join(names[:_NAMED])}{more}: {detail}")
    hidden = sum(len(names) for _, names in told[_SHOWN:]) + report["more"]
    if hidden or any(len(names) > _NAMED for _, names in told):
        text = f"{hidden} more: " if hidden else ""
        which = f"the first {len(report['items'])}" if report["more"] else "all"
        screen.note(f"{text}--json names {which} of them.")


def _alike(items: Iterable[Mapping[str, Any]]) -> list[tuple[tuple[str, str, str], list[str]]]:
    """The names of things of which the same is told, the gravest first: thousands of one kind hide no other."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for item in items:
        found.setdefault((item["outcome"], item["kind"], item["detail"]), []).append(item["name"])
    return sorted(found.items(), key=lambda one: _ORDER.index(one[0][0]))
