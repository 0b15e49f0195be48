"""What the gateway stands on, told to whoever asks how it stands."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict

import structlog

from carrel.packages.environments import Environments
from carrel.providers.guard import Guard
from carrel.sandbox import delegation
from carrel.sandbox.protocol import Confinement, Sandbox

_log = structlog.get_logger(__name__)


def own_cgroup() -> tuple[delegation.Delegation | None, str]:
    """The cgroup that was delegated to this process, made ready for sandboxes, and how to tell of it. Blocking."""
    try:
        taken = delegation.take()
    except delegation.NotDelegated as error:
        _log.info("sandboxes have no cgroup of their own", reason=str(error))
        return None, f"none: {error}"
    return taken, f"v2, with {', '.join(taken.controllers) or 'no controller'}"


def launchers_cgroup(controllers: Collection[str] | None) -> str:
    """The same of a launcher that is a unit of its own, by the controllers that it says hold there."""
    if controllers is None:
        return "none: the launcher's unit says why in its log"
    return f"v2, of the launcher's unit, with {', '.join(sorted(controllers)) or 'no controller'}"


class House:
    """Userland, environments, sandbox, runtimes, and what holds each limit. ``problem`` is what the check found."""

    def __init__(
        self, environments: Environments, sandbox: Sandbox, *, cgroup: str = "", guard: Guard | None = None
    ) -> None:
        self._guard = guard
        self._environments = environments
        self._sandbox = sandbox
        self.cgroup = cgroup
        self.problem: str | None = None
        self._runtimes: Mapping[str, str | None] = {}

    async def try_runtimes(self, ways: Iterable[Confinement]) -> None:
        """Try the OCI runtimes that modes name: each in a real sandbox, as the first one is."""
        self._runtimes = {way.runner: await self._sandbox.check(way) for way in ways}

    @property
    def runtimes(self) -> Mapping[str, str | None]:
        """The OCI runtimes that were tried, and what is wrong with each."""
        return self._runtimes

    def report(self) -> Mapping[str, object]:
        """As `/v1/status` tells it."""
        return {
            "userland": self._environments.summary(),
            "environments": [
                {
                    "packages": list(state.packages),
                    "state": state.state,
                    "reason": state.reason,
                    "seconds": round(state.seconds, 3),
                    "key": state.userland.key if state.userland is not None else None,
                }
                for state in self._environments.states()
            ],
            "sandbox": self.sandbox,
            "cgroup": self.cgroup,
            "providers": [asdict(one) for one in self._guard.report()] if self._guard is not None else [],
            "runtimes": [{"name": name, "problem": problem} for name, problem in self._runtimes.items()],
            "limits": [
                {"limit": held.limit, "by": held.by, "scope": held.scope} for held in self._sandbox.mechanisms()
            ],
        }

    @property
    def sandbox(self) -> str:
        """One line on the sandbox."""
        return "bwrap" if self.problem is None else f"none, so no tool runs: {self.problem}"
