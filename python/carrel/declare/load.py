"""tenants.d read whole, and read again where it changed. One validator for the daemon, the command line and hooks."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from carrel.declare.directory import GATEWAY, Refused, Signature, misnamed, tenant_of
from carrel.declare.file import ParseCache, Parsed, broken, parse, parse_overlay, place
from carrel.declare.judge import Verdict, judge, known_verdict
from carrel.declare.operators import OPERATOR_MODELS, Operators, assemble, operator_findings
from carrel.declare.problems import Finding, Problem
from carrel.declare.source import InMemory, OnDisk, Source
from carrel.declare.tenant import Tenant
from carrel.errors import CarrelError, lacking
from carrel.ids import TenantId

__all__ = ["Judged", "Loader", "Overlays", "ParseCache", "Tree", "check", "load_files", "load_tree"]


class Overlays(Protocol):
    """Where tenants' overlays are. Declarations do not know of the state directory."""

    def signature(self, tenant: TenantId) -> Signature | None:
        """What changes with the overlay; None where there is none."""
        ...

    def read(self, tenant: TenantId) -> bytes | None:
        """Its bytes, None where there is none; raises CarrelError where it is no file of ours."""
        ...


@dataclass(frozen=True, slots=True)
class Judged:
    """One declared tenant. ``config`` is the effective one, None where an error is among ``problems``.

    ``basis`` names all that ``config`` follows from: the operator's files, the tenant's and its overlay.
    """

    id: TenantId
    file: str
    digest: str
    config: Tenant | None
    revision: str
    canonical: str = ""
    problems: tuple[Problem, ...] = ()
    basis: str = ""

    @property
    def errors(self) -> tuple[Problem, ...]:
        return tuple(p for p in self.problems if p.severity == "error")


@dataclass(frozen=True, slots=True)
class Tree:
    """Everything declared at one time. ``operators`` is None where the operator's own files are broken."""

    operators: Operators | None
    tenants: Mapping[TenantId, Judged] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    @property
    def errors(self) -> tuple[Problem, ...]:
        return tuple(p for p in self.problems if p.severity == "error")


def load_tree(
    path: Path,
    *,
    cache: ParseCache | None = None,
    overlays: Overlays | None = None,
    here: Callable[[TenantId], bool] | None = None,
) -> Tree:
    """Everything in ``path``; raises DirectoryUnreadable where it cannot be listed, and for nothing in the files.

    ``here`` says whose tenants count, where several gateways share the declarations.
    """
    return _loaded(Loader(path, cache=cache, overlays=overlays, here=here))


def load_files(
    files: Mapping[str, bytes], *, cache: ParseCache | None = None, overlays: Overlays | None = None
) -> Tree:
    """The same of files that are in no directory: their bytes by name. Raises nothing."""
    return _loaded(Loader(InMemory(files), cache=cache, overlays=overlays))


def _loaded(loader: "Loader") -> Tree:
    loader.load(loader.changed())
    return loader.tree()


def check(path: Path) -> list[Problem]:
    """All problems in ``path``, by file and line; raises DirectoryUnreadable."""
    return list(load_tree(path).problems)


class Loader:
    """Keeps what was read, and reads again what changed. For one thread at a time."""

    def __init__(
        self,
        source: Path | Source,
        *,
        cache: ParseCache | None = None,
        overlays: Overlays | None = None,
        here: Callable[[TenantId], bool] | None = None,
    ) -> None:
        self._source: Source = OnDisk(source) if isinstance(source, Path) else source
        self._here = here
        self._cache = cache
        self._overlays = overlays
        self._signatures: dict[str, Signature] = {}
        self._overlay_signatures: dict[TenantId, Signature] = {}
        self._files: dict[str, Parsed] = {}
        self._overlay_layers: dict[TenantId, Parsed] = {}
        self._stray: dict[str, Problem] = {}
        self._token_owners: dict[str, TenantId] = {}
        self._tokens_held: dict[TenantId, tuple[str, ...]] = {}
        self._operator_problems: tuple[Problem, ...] = ()
        self.operators: Operators | None = None
        self.tenants: dict[TenantId, Judged] = {}
        self.started = False
        self._known_there: Mapping[str, str] = {}

    def move_to(self, path: Path, digests: Mapping[str, str] | None = None) -> None:
        """Read from the directory ``path`` from now on. What is the same there is neither parsed nor judged again.

        ``digests`` are the SHA-256 of files that were just put there: what was read already is not even read.
        """
        self._source = OnDisk(path)
        self._known_there = digests or {}

    # --- what changed ---

    def changed(self, *, overlays_of: Iterable[TenantId] | None = None) -> set[str]:
        """Names of files that differ from what was read, by their signatures; raises DirectoryUnreadable.

        ``overlays_of`` are the tenants that may have a new overlay: without it, all may. Known ones are compared too.
        """
        now = self._source.scan()
        if self._here is not None:
            now = {name: found for name, found in now.items() if self._counts(name)}
        self._take_over(now)
        names = {name for name, found in now.items() if self._signatures.get(name) != found}
        if len(now) < len(self._signatures) + len(names):
            names.update(name for name in self._signatures if name not in now)
        suspects = self.tenants if overlays_of is None else {*overlays_of, *self._overlay_signatures}
        names.update(f"{t}.yaml" for t in suspects if t in self.tenants and self._overlay_changed(t))
        return names

    def _take_over(self, now: Mapping[str, Signature]) -> None:
        """After a move: what was read already, and is the same there, is known by its new signature."""
        for name, digest in self._known_there.items():
            read = self._files.get(name)
            if read is not None and read.digest == digest and name in self._signatures and name in now:
                self._signatures[name] = now[name]
        self._known_there = {}

    def _counts(self, name: str) -> bool:
        tenant = tenant_of(name) if self._here is not None else None
        return tenant is None or self._here is None or self._here(tenant)

    def _overlay_changed(self, tenant: TenantId) -> bool:
        if self._overlays is None:
            return False
        return self._overlays.signature(tenant) != self._overlay_signatures.get(tenant)

    def known(self, name: str) -> Parsed | None:
        """What was last read of the file ``name``."""
        return self._files.get(name)

    def peek(self, name: str) -> tuple[Signature, bytes] | None:
        """The file's bytes now, without taking them in; None where it is missing or refused."""
        try:
            content = self._source.read(name)
        except (Refused, FileNotFoundError):
            return None
        return content.signature, content.data

    def refused(self, name: str) -> bool:
        """Whether something of that name is there that is not read."""
        try:
            self._source.signature(name)
        except OSError:
            return False
        return True

    # --- reading ---

    def load(self, names: Iterable[str], *, first: Mapping[str, str] | None = None) -> set[TenantId]:
        """Read ``names`` again; the tenants whose verdict may differ now.

        ``first`` are digests by tenant of what was in force before a restart: who still declares that is judged first.
        """
        names = [name for name in names if self._counts(name) and self._read(name)]
        touched = {tenant for name in names if (tenant := tenant_of(name)) is not None and misnamed(name) is None}
        if not self.started or any(name.startswith("_") for name in names):
            self.started = True
            self._judge_operators()
            touched = {t for name in self._files if (t := tenant_of(name)) is not None} | set(self.tenants)
        for tenant in sorted(touched, key=lambda tenant: self._seniority(tenant, first or {})):
            self._judge_tenant(tenant)
        return touched

    def _seniority(self, tenant: TenantId, first: Mapping[str, str]) -> tuple[bool, str]:
        """Who was there before is judged first, so that a newcomer cannot take what is another's."""
        parsed = self._files.get(f"{tenant}.yaml")
        was_there = tenant in self.tenants or (parsed is not None and first.get(tenant) == parsed.digest)
        return not was_there, tenant

    def _read(self, name: str) -> bool:
        """Read the file again; whether anything of it, or of its tenant's overlay, has to be judged again."""
        before, stray = self._files.get(name), self._stray.pop(name, None)
        wrong = misnamed(name)
        try:
            content = self._source.read(name)
        except FileNotFoundError:
            self._signatures.pop(name, None)
            self._files.pop(name, None)
            return before is not None or stray is not None
        except Refused as error:
            self._signatures.pop(name, None)
            parsed: Parsed | None = broken(name, str(error))
            # What the machine lacked for a moment is no fault of the file: it is looked at again with the next poll.
            if not isinstance(error.__cause__, OSError) or lacking(error.__cause__, "it was not read") is None:
                self._remember_refused(name)
        else:
            self._signatures[name] = content.signature
            known = self._files.get(name)
            if wrong is None and (known is None or known.digest != content.digest):
                parsed = parse(name, content.digest, content.data, OPERATOR_MODELS.get(name, Tenant), cache=self._cache)
            else:
                parsed = known
        if wrong is not None:
            self._stray[name] = Problem(name, 1, 1, "", wrong)
        elif parsed is not None:
            self._files[name] = parsed
        return parsed is not before or self._open(name)

    def _open(self, name: str) -> bool:
        """Whether the tenant of a file that is as it was may be judged otherwise now: broken, or by its overlay."""
        tenant = tenant_of(name)
        if tenant is None:
            return False
        judged = self.tenants.get(tenant)
        return judged is None or judged.config is None or self._overlay_changed(tenant)

    def _remember_refused(self, name: str) -> None:
        try:
            self._signatures[name] = self._source.signature(name)
        except FileNotFoundError:
            return

    def _judge_operators(self) -> None:
        problems: list[Problem] = []
        models: dict[str, Any] = {}
        for name, model in OPERATOR_MODELS.items():
            parsed = self._files.get(name)
            if parsed is None:
                continue
            problems += parsed.problems
            if parsed.layer is not None:
                models[name] = model.model_validate_json(json.dumps(dict(parsed.layer)))
        if GATEWAY not in self._files:
            problems.append(Problem(GATEWAY, 1, 1, "", "the file is missing: it names the providers and models"))
        operators = None
        if not any(p.severity == "error" for p in problems):
            operators = assemble(models)
            by_file: dict[str, list[Finding]] = {}
            for file, finding in operator_findings(operators):
                by_file.setdefault(file, []).append(finding)
            for file, findings in by_file.items():
                problems += self._place(file, findings)
        self._operator_problems = tuple(problems)
        self.operators = None if any(p.severity == "error" for p in problems) else operators

    def _judge_tenant(self, tenant: TenantId) -> None:
        name = f"{tenant}.yaml"
        parsed = self._files.get(name)
        if parsed is None:
            self._hold_tokens(tenant, ())
            self.tenants.pop(tenant, None)
            self._overlay_signatures.pop(tenant, None)
            self._overlay_layers.pop(tenant, None)
            return
        overlay = self._overlay(tenant)
        if parsed.layer is None or self.operators is None or (overlay is not None and overlay.layer is None):
            problems = parsed.problems + (overlay.problems if overlay is not None else ())
            self.tenants[tenant] = Judged(tenant, name, parsed.digest, None, "", problems=problems)
            return
        basis = f"{self.operators.revision}:{parsed.digest}:{overlay.digest if overlay is not None else ''}"
        kept = self._cache.verdict(tenant, basis) if self._cache is not None else None
        if kept is not None:
            verdict = known_verdict(kept)
        else:
            verdict = judge(self.operators, parsed.layer, overlay.layer if overlay is not None else None)
        self.tenants[tenant] = self._judged(tenant, parsed, overlay, verdict, basis)

    def _judged(
        self, tenant: TenantId, parsed: Parsed, overlay: Parsed | None, verdict: Verdict, basis: str
    ) -> Judged:  # fmt: skip
        problems = parsed.problems
        declared = verdict.declared + self._claimed_twice(tenant, verdict.config)
        if declared:
            problems += self._place(parsed.name, declared)
        if overlay is not None:
            problems += overlay.problems
            if verdict.overlay:
                problems += self._place_overlay(tenant, overlay.name, verdict.overlay)
        config = None if declared or verdict.overlay else verdict.config
        if config is not None:
            self._hold_tokens(tenant, tuple(token.sha256 for token in config.tokens))
        revision, canonical = (verdict.revision, verdict.canonical) if config is not None else ("", "")
        return Judged(tenant, parsed.name, parsed.digest, config, revision, canonical, problems, basis)

    def _claimed_twice(self, tenant: TenantId, config: Tenant | None) -> tuple[Finding, ...]:
        tokens = config.tokens if config is not None else ()
        return tuple(
            Finding(("tokens", index, "sha256"), "another tenant has declared this token")
            for index, token in enumerate(tokens)
            if self._token_owners.get(token.sha256, tenant) != tenant
        )

    def _hold_tokens(self, tenant: TenantId, digests: tuple[str, ...]) -> None:
        """Give the tenant's tokens to it, in place of those before. A broken file leaves what it held."""
        for digest in self._tokens_held.pop(tenant, ()):
            del self._token_owners[digest]
        if digests:
            self._tokens_held[tenant] = digests
            self._token_owners.update(dict.fromkeys(digests, tenant))

    def _overlay(self, tenant: TenantId) -> Parsed | None:
        if self._overlays is None:
            return None
        signature = self._overlays.signature(tenant)
        if signature is None:
            self._overlay_signatures.pop(tenant, None)
            self._overlay_layers.pop(tenant, None)
            return None
        if self._overlay_signatures.get(tenant) == signature and tenant in self._overlay_layers:
            return self._overlay_layers[tenant]
        self._overlay_signatures[tenant] = signature
        self._overlay_layers[tenant] = parsed = _read_overlay(self._overlays, tenant)
        return parsed

    # --- reporting ---

    def tree(self) -> Tree:
        """All of it as it stands."""
        problems = [*self.tree_problems()]
        for judged in self.tenants.values():
            problems += judged.problems
        return Tree(self.operators, dict(self.tenants), tuple(sorted(problems, key=lambda p: (p.file, p.line))))

    def tree_problems(self) -> tuple[Problem, ...]:
        """Problems that are no one tenant's: of the operator's files, and of files that declare nothing."""
        return self._operator_problems + tuple(self._stray.values())

    def _place(self, name: str, findings: Iterable[Finding]) -> tuple[Problem, ...]:
        found = self.peek(name)
        return place(name, found[1].decode("utf-8-sig", "replace") if found is not None else "", findings)

    def _place_overlay(self, tenant: TenantId, name: str, findings: Iterable[Finding]) -> tuple[Problem, ...]:
        data = self._overlays.read(tenant) if self._overlays is not None else None
        return place(name, (data or b"").decode("utf-8-sig", "replace"), findings)


def _read_overlay(overlays: Overlays, tenant: TenantId) -> Parsed:
    name = f"{tenant}/config.yaml"
    try:
        return parse_overlay(name, overlays.read(tenant) or b"")
    except CarrelError as error:
        return broken(name, error.message)
