"""Where what is declared comes from: a directory that people edit, a branch that is pushed to, or one pulled."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from carrel.audit.log import Audit
from carrel.clock import Clock, SystemClock
from carrel.gitops.follow import Before, Follower
from carrel.gitops.pull import Mark, Puller
from carrel.gitops.pushers import Pushers
from carrel.gitops.service import GitService
from carrel.gitops.uncommitted import Uncommitted
from carrel.main.launch import program
from carrel.reconcile.reconciler import Reconciler
from carrel.secrets import SecretStore
from carrel.tasks import Tasks
from carrel.vcs.branch import Branch, Elsewhere
from carrel.vcs.home import GitHome
from carrel.vcs.remote import Remote
from carrel.vcs.revisions import Revisions
from carrel.vcs.work_tree import WorkTree


class Where(Protocol):
    """Where state is, and where declarations are: by the file of git settings ``git``, else in ``tenants_dir``."""

    @property
    def state_dir(self) -> Path: ...
    @property
    def tenants_dir(self) -> Path: ...
    @property
    def git(self) -> Path | None: ...


@dataclass(frozen=True)
class Declared:
    """``directory`` is what to load first; ``place`` is where changes are written, with its past."""

    directory: Path
    place: WorkTree | Branch
    follower: Follower | None = None
    puller: Puller | None = None
    service: GitService | None = None
    clock: Clock = field(default_factory=SystemClock)
    pushers: Pushers | None = None

    @classmethod
    async def open(
        cls, options: Where, *, secrets: SecretStore, audit: Audit, clock: Clock, first: Before | None = None
    ) -> "Declared":
        """Make ready what ``options`` say. In pull mode the remote is looked at once, so that a first start has all.

        ``first`` is done with each revision before it comes into force.

        Raises DeclarationInvalid where the git settings are wrong, CarrelError where they or the state are unusable.
        """
        if options.git is None:
            return cls(options.tenants_dir, WorkTree(options.tenants_dir), clock=clock)
        home = GitHome(options.state_dir, program())
        settings = await home.make(options.git)
        repository, hosted = home.bare(settings), settings.hosted
        follower = Follower(
            repository=repository, revisions=Revisions(home.path, keep=hosted.keep_revisions), settings=settings,
            audit=audit, clock=clock, first=first,
        )  # fmt: skip
        pull, puller = settings.pull, None
        place: Branch = Branch(repository, hosted, taken=follower.take)
        if pull is not None:
            place = Elsewhere(repository, pull)
            puller = Puller(
                remote=Remote(repository, pull, secrets, home.path), repository=repository, settings=pull,
                mark=Mark(home.mark_file), follower=follower, clock=clock,
            )  # fmt: skip
            await puller.look(take=False)
        service = GitService(follower=follower, puller=puller, pull=pull, secrets=secrets)
        pushers = Pushers(home.keys(), home.path / "keys-seen.json", audit=audit, clock=clock) if pull is None else None
        return cls(await follower.prepare(), place, follower, puller, service, pushers=pushers)

    def follow(self, reconciler: Reconciler, tasks: Tasks) -> None:
        """Bring into force what comes from now on, and say what is in no commit."""
        if isinstance(self.place, WorkTree):
            tasks.start(Uncommitted(self.place, reconciler, self.clock).watch(), name="uncommitted")
        if self.follower is not None:
            self.follower.attach(reconciler)
            tasks.start(self.follower.watch(), name="branch")
        if self.pushers is not None:
            tasks.start(self.pushers.watch(), name="pushers")
        if self.puller is not None:
            tasks.start(self.puller.watch(), name="pull")
