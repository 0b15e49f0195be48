from carrel.declare.file import parse, parse_overlay
from carrel.declare.gateway import Gateway
from carrel.declare.tenant import Tenant
from carrel.ids import TenantId


class MemoryCache:
    def __init__(self) -> None:
        self.entries: dict[tuple[str, str], str] = {}

    def get(self, name: str, digest: str) -> str | None:
        return self.entries.get((name, digest))

    def verdict(self, tenant: TenantId, basis: str) -> str | None:
        return None

    def put(self, name: str, digest: str, entry: str) -> None:
        self.entries[name, digest] = entry


def test_a_file_becomes_what_it_sets() -> None:
    parsed = parse("acme.yaml", "d", b"suspended: false\nquotas: {cost_per_day_usd: 1.50}\n", Tenant)
    assert parsed.layer == {"suspended": False, "quotas": {"cost_per_day_usd": "1.50"}}
    assert parsed.problems == ()


def test_what_is_not_acted_upon_is_warned_about_in_its_place() -> None:
    parsed = parse("acme.yaml", "d", b"display_name: x\nvoice: []\n", Tenant)
    assert not parsed.broken
    assert [str(p) for p in parsed.problems] == [
        "acme.yaml:2:1: warning: voice: kept, and not acted upon by this version"
    ]


def test_a_scope_that_a_members_role_does_not_allow_is_warned_about() -> None:
    text = (
        "members: [{name: ada, role: viewer}, {name: bob, role: owner}]\ntokens:\n"
        f"  - {{name: a, sha256: {'1' * 64}, member: ada}}\n"
        f"  - {{name: b, sha256: {'2' * 64}, member: bob, scopes: [admin]}}\n"
        f"  - {{name: c, sha256: {'3' * 64}, scopes: [admin]}}\n"
    )
    parsed = parse("acme.yaml", "d", text.encode(), Tenant)
    assert not parsed.broken
    assert [str(p) for p in parsed.problems] == [
        f"acme.yaml:3:{6 + len('{name: a, sha256: , member: ') + 63}: warning: tokens[0].member: ada is a viewer, "
        "whose tokens do not get the scope chat"
    ]


def test_text_that_is_no_utf_8_and_broken_yaml_have_a_place() -> None:
    assert str(parse("a.yaml", "d", b"x: 1\ny: \xff\n", Tenant).problems[0]) == "a.yaml:2:1: the file is not UTF-8 text"
    assert parse("a.yaml", "d", b"x: [\n", Tenant).broken
    assert parse("a.yaml", "d", b"\xef\xbb\xbfdisplay_name: x\n", Tenant).layer == {"display_name": "x"}


def test_a_secret_is_an_error_that_does_not_show_it() -> None:
    parsed = parse(
        "_gateway.yaml", "d", b"providers:\n  a: {kind: openai, api_key: sk-proj-abcdef0123456789}\n", Gateway
    )
    assert parsed.broken
    assert "looks like a secret" in str(parsed.problems[0])
    assert str(parsed.problems[0]).startswith("_gateway.yaml:2:30: providers.a.api_key")
    assert "abcdef0123456789" not in " ".join(str(problem) for problem in parsed.problems)


def test_the_cache_gives_what_reading_gave() -> None:
    cache, text = MemoryCache(), b"voice: [1.5]\nquotas: {cost_per_day_usd: 0.10}\n"
    first = parse("acme.yaml", "d", text, Tenant, cache=cache)
    assert cache.entries
    second = parse("acme.yaml", "d", text, Tenant, cache=cache)
    assert second == first


def test_a_layer_from_the_cache_is_read_when_it_is_looked_into() -> None:
    cache, text = MemoryCache(), b"plan: pro\n"
    parse("acme.yaml", "d", text, Tenant, cache=cache)
    kept = parse("acme.yaml", "d", text, Tenant, cache=cache)
    assert kept.layer == {"plan": "pro"}
    assert dict(kept.layer or {}) == {"plan": "pro"}
    assert (kept.problems, kept.broken, len(kept.layer or ())) == ((), False, 1)


def test_what_is_broken_is_not_cached() -> None:
    cache = MemoryCache()
    parse("acme.yaml", "d", b"nope: 1\n", Tenant, cache=cache)
    assert not cache.entries


def test_an_overlay_is_read_like_a_tenants_file() -> None:
    assert parse_overlay("acme/config.yaml", b"packages: [jq]\n").layer == {"packages": ["jq"]}
