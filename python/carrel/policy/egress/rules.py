"""A tenant's rules, made ready to judge by, and the judgement: deny before allow, and nothing that no rule allows."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Final

from carrel.declare import egress as declared
from carrel.declare.allowlists import Allowlists
from carrel.declare.hosts import Host
from carrel.policy.egress.addresses import Network

NO_RULE: Final = "no rule allows it"


@dataclass(frozen=True, slots=True)
class Asked:
    """A connection (without a method), or one request on it. ``path`` is without its query."""

    host: Host
    port: int
    method: str | None = None
    path: str | None = None

    def __str__(self) -> str:
        name = f"[{self.host}]" if ":" in self.host.name else self.host.name
        where = f"{name}:{self.port}"
        return f"{self.method} {where}{self.path or ''}" if self.method is not None else where


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. ``text`` is how it was written."""

    text: str
    host: Host | None
    wild: bool
    ports: frozenset[int]
    methods: frozenset[str] = frozenset()
    paths: tuple[str, ...] = ()
    permitted: tuple[Network, ...] = ()
    tls: bool | None = None

    @property
    def looks_in(self) -> bool:
        """Whether requests have to be seen to judge by it."""
        return bool(self.methods or self.paths)

    def names(self, asked: Asked) -> bool:
        """Whether it is about that host and port."""
        if asked.port not in self.ports:
            return False
        if self.host is None:
            return True
        if not self.wild:
            return asked.host == self.host
        return asked.host.address is None and asked.host.name.endswith(f".{self.host.name}")

    def matches(self, asked: Asked) -> bool:
        """Whether it is about that request too; of a mere connection, whether it may be."""
        if asked.method is None:
            return True
        if self.methods and asked.method not in self.methods:
            return False
        return not self.paths or any(_beneath(asked.path or "/", prefix) for prefix in self.paths)

    def speaks_tls(self, port: int) -> bool:
        """Whether what is said on ``port`` must be TLS."""
        return port != declared.HTTP if self.tls is None else self.tls


@dataclass(frozen=True, slots=True)
class Decision:
    """``rule`` is what decided, "" where none did. ``looks_in``: the requests have to be judged one by one.

    ``permitted`` are networks that the host may be in although they are private; ``tls``: the first bytes must be TLS.
    """

    allowed: bool
    rule: str
    reason: str
    looks_in: bool = False
    tls: bool = True
    permitted: tuple[Network, ...] = ()


@dataclass(frozen=True, slots=True)
class Rules:
    """All of a tenant's. ``only`` narrows what ``allow`` opens, where it is not None."""

    allow: tuple[Rule, ...] = ()
    deny: tuple[Rule, ...] = ()
    only: tuple[Rule, ...] | None = None

    def decide(self, asked: Asked, *, granted: Iterable[Rule] = ()) -> Decision:
        """Judge ``asked``; ``granted`` are rules that somebody who may has added for now. A denial stays."""
        looks_in = False
        for rule in self.deny:
            if rule.names(asked) and rule.matches(asked):
                if rule.looks_in and asked.method is None:
                    looks_in = True
                else:
                    return Decision(False, rule.text, f"the rule `{rule.text}` denies it")
        added = _first(granted, asked)
        if added is None and self.only is not None:
            narrowing = _first(self.only, asked)
            if narrowing is None:
                return Decision(False, "", "the tenant's own settings have narrowed it out")
            looks_in |= narrowing.looks_in
        rule_found = added or _first(self.allow, asked)
        if rule_found is None:
            return Decision(False, "", NO_RULE)
        return Decision(
            True, rule_found.text, "", looks_in or rule_found.looks_in, rule_found.speaks_tls(asked.port),
            rule_found.permitted,
        )  # fmt: skip


def compiled(egress: declared.Egress, allowlists: Allowlists) -> Rules:
    """The rules of ``egress``, with the sets that it names."""
    sets = allowlists.hosts.sets
    return Rules(
        tuple(_all(egress.allow, sets)),
        tuple(_all(egress.deny, sets)),
        None if egress.only is None else tuple(_all(egress.only, sets)),
    )


def rule_of(text: str) -> Rule:
    """A rule in its text form; raises ValueError."""
    host, port = declared.parsed(text)
    return _rule(declared.EgressRule(host=host, ports=(port,), any=True), text)


def _all(
    rules: Iterable[declared.Rule], sets: Mapping[str, tuple[declared.DirectRule, ...]]
) -> Iterator[Rule]:  # fmt: skip
    for rule in rules:
        if isinstance(rule, declared.HostSet):
            yield from _all(sets.get(rule.set, ()), sets)
        elif isinstance(rule, str):
            yield rule_of(rule)
        else:
            yield _rule(rule, _shown(rule))


def _rule(rule: declared.EgressRule, text: str) -> Rule:
    wild, host = declared.pattern(rule.host)
    permitted = tuple(ip_network(network) for network in rule.addresses)
    if host is not None and host.address is not None:
        # Whoever names an address has said which one is meant.
        permitted += (ip_network(str(host.address)),)
    return Rule(
        text, host, wild, frozenset(rule.ports), frozenset(rule.methods), rule.paths, permitted, rule.tls
    )  # fmt: skip


def _shown(rule: declared.EgressRule) -> str:
    text = f"{' '.join(rule.methods)} {rule.host}:{','.join(map(str, rule.ports))}".strip()
    return text + (f" {' '.join(rule.paths)}" if rule.paths else "")


def _first(rules: Iterable[Rule], asked: Asked) -> Rule | None:
    """The rule that lets ``asked`` through: one that needs no look into the requests before one that does."""
    fitting = [rule for rule in rules if rule.names(asked) and rule.matches(asked)]
    return min(fitting, key=lambda rule: rule.looks_in and asked.method is None, default=None)


def _beneath(path: str, prefix: str) -> bool:
    """Whether ``path`` begins with ``prefix`` at the border of a segment. One that climbs is beneath nothing."""
    lowered = path.lower()
    if ".." in path.split("/") or any(odd in lowered for odd in ("%2e", "%2f", "%5c", "\\", "//")):
        return False
    return path == prefix or path.startswith(prefix if prefix.endswith("/") else f"{prefix}/")
