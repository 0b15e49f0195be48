"""A directory of declarations to load, and to break."""

from pathlib import Path

GATEWAY = """\
providers: {demo: {kind: demo}}
models:
  demo: {provider: demo, context_window: 32768, max_output: 4096}
  other: {provider: demo}
default_model: demo
"""
RATE_CARD = "models: {demo: {input: 1.00, output: 2.00}, other: {input: 1, output: 2}}\n"
PLANS = "plans: {starter: {quotas: {tokens_per_day: 1000}}, pro: {models: [demo]}}\n"
ALLOWLISTS = "packages: {names: [jq, ripgrep, python3]}\n"


def declare(directory: Path, **tenants: str) -> Path:
    """The operator's files and a file for each of ``tenants`` by id; ``directory`` for chaining."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "_gateway.yaml").write_text(GATEWAY)
    (directory / "_rate-card.yaml").write_text(RATE_CARD)
    (directory / "_plans.yaml").write_text(PLANS)
    (directory / "_allowlists.yaml").write_text(ALLOWLISTS)
    for name, text in tenants.items():
        (directory / f"{name}.yaml").write_text(text)
    return directory
