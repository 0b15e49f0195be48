"""What the gateway stands on, told to whoever asks how it stands."""

from collections.abc import Mapping

from carrel.packages.environments import Environments
from carrel.sandbox.protocol import Sandbox


class House:
    """Userland, environments, sandbox, and what holds each limit. ``problem`` is what the sandbox's check found."""

    def __init__(self, environments: Environments, sandbox: Sandbox) -> None:
        self._environments = environments
        self._sandbox = sandbox
        self.problem: str | None = None

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
            "limits": [
                {"limit": held.limit, "by": held.by, "scope": held.scope} for held in self._sandbox.mechanisms()
            ],
        }

    @property
    def sandbox(self) -> str:
        """One line on the sandbox."""
        return "bwrap" if self.problem is None else f"none, so no tool runs: {self.problem}"
