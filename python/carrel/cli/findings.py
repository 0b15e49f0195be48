"""What `carrel doctor` finds, and why each thing that it looks at matters."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

State = Literal["ok", "warning", "fault"]

WHY: Final = MappingProxyType({
    "kernel": "What one sandbox may run is counted by the kernel, and an older one counts all of them together.",
    "openat2": "A tenant's files are opened beneath its root by the kernel, so that no link leads out of it.",
    "seccomp": "The filters of system calls are one of the walls around strangers' commands.",
    "user namespaces": "bubblewrap, which is not root, makes the sandbox's walls of them.",
    "bubblewrap": "It makes the sandbox; an older one cannot forbid further namespaces inside.",
    "sandbox": "Tools of agents run in it or not at all.",
    "cgroups": "They alone limit a sandbox as a whole; else each of its processes has the whole limit for itself.",
    "launcher": "Under systemd a unit of its own starts the sandboxes; without it no tool runs.",
    "file limit": "Each tenant's stores, each connection and each sandbox takes some; where none is left, calls fail.",
    "state": "All that tenants have is there: only the gateway's own user may read it, and it must outlive a restart.",
    "disk": "The ledger is written before an answer ends: where it cannot be, there is no answer.",
    "clock": "Quotas' windows, bills' days, the ends of tokens and signatures to object stores rest on it.",
    "vault": "Tenants' secrets are sealed with the master key, and nothing else opens them.",
    "declarations": "What is broken is not in force: its tenant, or everybody, stays on what was there before.",
    "git": "Git says who changed what is declared, and is the way back.",
    "push": "A push logs in as that account by SSH, and its hooks judge what is pushed.",
    "pull": "What is on the remote's branch is not in force here.",
    "revision": "What was pushed is not in force; what was before stays.",
    "provider": "Agents answer with what it gives.",
    "secrets": "Who reads them calls the providers on your bill.",
    "secret of": "What a tenant's agents are to use is not there when they use it.",
    "admin key": "It opens the control plane for as long as it is declared.",
    "token": "A token that never ends is good for ever wherever it once leaked to.",
    "price": "A call of a model without a price is refused, or billed by a rule that was not made for it.",
    "packages": "Tools run on the closure of the tenant's packages.",
    "runtime": "Commands of the modes that name it run in it or not at all.",
    "backups": "A disk that breaks takes all of it along; what was never read back is no backup yet.",
    "record": "The audit log is there to be believed.",
    "ledger": "Bills are what is in it.",
    "certificate": "Clients refuse to speak to the gateway where it is not good.",
    "gateway": "Nothing is served where it does not run.",
    "version": "A command and a gateway of two versions may not understand each other.",
    "status": "What a gateway says of itself cannot be looked at.",
    "userland": "Tools run on it.",
    "environment": "Sandboxes of its tenants run without what they were promised.",
    "limits": "A tool of many processes could take more than its tenant's limit.",
    "channel": "Who writes to an agent there gets no answer.",
    "circuit": "A provider that fails again and again is not asked for a while.",
    "tenants": "They are served as before, or not at all.",
    "declared": "What was in force before stays.",
    "uncommitted": "The next push or rollback may undo it, and nobody can see who did it.",
})  # fmt: skip
"""By what a finding's name is, or begins with."""


_NAMED: Final = 5


def some(names: Sequence[str]) -> str:
    """A few of ``names``, and how many more."""
    shown = ", ".join(names[:_NAMED])
    return f"{shown} and {len(names) - _NAMED} more" if len(names) > _NAMED else shown


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. ``mend`` says what to do where it is not ok, a command where one does it."""

    what: str
    state: State
    text: str
    mend: str = ""

    @property
    def topic(self) -> str:
        """What of `WHY` it is about; empty where it is about nothing there."""
        words = self.what.split(" ")
        names = (" ".join(words[:count]) for count in range(len(words), 0, -1))
        return next((name for name in names if name in WHY), "")

    @property
    def why(self) -> str:
        """Why it matters."""
        return WHY.get(self.topic, "")
