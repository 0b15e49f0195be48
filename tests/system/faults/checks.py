"""What is there after a death, held against the truth: nothing lost, nothing doubled, nothing left behind."""

import json
import re
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.serialization import load_pem_public_key

from carrel.audit.log import MARK
from carrel.audit.verify import verify_directory
from tests.fakes.gateway_process import GatewayProcess
from tests.fakes.patience import until
from tests.system.faults.mix import OTHERS, TENANT
from tests.system.faults.truth import Asked, Truth

_LEFT: Final = re.compile(r"(^\.carrel-.*\.tmp$|\.tmp$|\.lock$|^tmp_obj_|^\.master\.marks\.|\.staging$)")
_PAGE: Final = 1000


class Checks:
    """Looks at one gateway that came back. ``problems`` are sentences on what is not as it must be."""

    def __init__(
        self, gateway: GatewayProcess, truth: Truth, token: str, *, patience: float = 90.0, failing: bool = False
    ) -> None:
        self._gateway = gateway
        self._truth = truth
        self._token = token
        self._patience = patience
        self._failing = failing
        # Where calls were made to fail, their rows say so.
        self._outcomes = ("ok", "interrupted", "cancelled", *(("error",) if failing else ()))
        self.problems: list[str] = []

    def all(self) -> list[str]:
        """Everything; the problems."""
        for check in (
            self.jobs, self.ledger, self.sessions, self.memory, self.audit, self.tokens, self.secrets, self.settings,
            self.commits, self.left_behind,
        ):  # fmt: skip
            check()
        return self.problems

    # --- one kind each ---

    def ledger(self) -> None:
        """One row a call that was acknowledged."""
        path = self._gateway.state_dir / "tenants" / TENANT / "usage" / "ledger.sqlite"
        # After a power cut a ledger's log is to be taken in, before anybody can read it who may not write.
        self._rpc("tenants.usage", {})
        rows: list[tuple[str, str]] = []

        def entered() -> bool:
            rows[:] = rows_of(path, "SELECT request_id, outcome FROM ledger") if path.exists() else []
            found = Counter(rid for rid, _ in rows)
            return all(found[rid] >= asked.count for rid, asked in self._truth.calls.items() if asked.acked)

        until(entered, seconds=self._patience)
        found = Counter(rid for rid, _ in rows)
        self._held("ledger row", self._truth.calls, lambda rid: found[rid])
        outcomes = {(rid, outcome) for rid, outcome in rows if outcome not in self._outcomes}
        told = {rid for rid, asked in self._truth.calls.items() if asked.acked}
        wrong = {rid for rid, outcome in rows if outcome != "ok" and rid in told}
        self._expect(not wrong, f"rows of calls that were answered say that they were not: {sorted(wrong)}")
        self._expect(not outcomes, f"rows say {sorted(outcomes)}")

    def sessions(self) -> None:
        """Every message once in a session that can be read."""
        spoken = {asked.where for asked in self._truth.said.values()} | set(self._truth.deleted)
        texts: dict[str, list[dict[str, str]]] = {}
        for part in _parts(sorted(spoken), 64):
            shown = self._rpc("sessions.preview", {"keys": part, "limit": 100, "maxChars": 2000})
            for one in shown["previews"]:
                self._expect(one["status"] != "error", f"session {one['key']} cannot be read")
                texts[one["key"]] = one["items"]
        for session, asked in self._truth.deleted.items():
            self._expect(not asked.acked or not texts[session], f"deleted session {session} is there again")

        def count(word: str) -> int:
            items = texts[self._truth.said[word].where]
            return sum(item["role"] == "user" and _has(item["text"], word) for item in items)

        kept = {word: one for word, one in self._truth.said.items() if one.where not in self._truth.deleted}
        self._held("message", kept, count)
        for word, asked in kept.items():
            items = texts[asked.where]
            at = next((n for n, item in enumerate(items) if _has(item["text"], word)), len(items))
            answered = any(item["role"] == "assistant" for item in items[at:])
            self._expect(answered or not asked.acked, f"the answer to {word} is lost")
        for name in self._everything("sessions.list", "sessions"):
            shown = self._rpc("sessions.preview", {"keys": [name["key"]]}) if name["sessionId"] not in texts else None
            if shown is not None:
                self._expect(shown["previews"][0]["status"] != "error", f"session {name['key']} cannot be read")

    def memory(self) -> None:
        """Every note once."""
        texts = " ".join(note["text"] + " ." for note in self._everything("memory.list", "notes"))
        found = Counter(re.findall(r"note-\S+", texts))
        self._held("note", self._truth.notes, lambda word: found[word])

    def jobs(self) -> None:
        """Every job once, run once."""

        def over() -> bool:
            jobs = {job["name"]: job for job in self._everything("cron.list", "jobs")}
            runs = Counter(run["jobId"] for run in self._everything("cron.runs", "runs") if run["status"] != "running")
            return all(job.get("nextRunAt") is None and runs[job["jobId"]] for job in jobs.values() if "jobId" in job)

        done = until(over, seconds=self._patience, pause=0.05)
        jobs = self._everything("cron.list", "jobs")
        runs = Counter(run["jobId"] for run in self._everything("cron.runs", "runs"))
        found = Counter(job["name"] for job in jobs)
        self._held("job", self._truth.jobs, lambda name: found[name])
        if not done:
            waiting = [job["name"] for job in jobs if not runs[job["jobId"]] or job.get("nextRunAt") is not None]
            self._expect(False, f"jobs do not come to run: {waiting}")
        for job in jobs:
            self._expect(runs[job["jobId"]] == 1, f"job {job['name']} has {runs[job['jobId']]} runs")

    def audit(self) -> None:
        """The chain holds, and every change has its lines."""
        ends = self._control("GET", "/v1/audit/ends")
        key = load_pem_public_key(ends["public_key"].encode())
        state = self._gateway.state_dir
        findings = verify_directory(state / "audit", {ends["key"]: key}, [state / MARK])  # type: ignore[dict-item]
        self._expect(not findings, f"the audit log does not verify: {findings}")
        lines: Counter[str] = Counter()
        for file in sorted((state / "audit").glob("????-??-??.jsonl")):
            for line in file.read_text().splitlines():
                said = json.loads(line)
                if said["outcome"] == "ok":
                    lines[said["request_id"]] += 1
        self._held("audit line", self._truth.changes, lambda rid: lines[rid])

    def tokens(self) -> None:
        """Of each name the token in force works, and none before it."""
        for name, value in self._truth.tokens.items():
            works = bool(value.acked) and self._works(value.acked)
            if not value.doubtful:
                self._expect(works == bool(value.acked), f"token {name} is not what was told last")
            elif not works and "" not in value.possible:
                listed = self._control("GET", f"/v1/tenants/{OTHERS[0]}/tokens")["tokens"]
                self._expect(any(one["name"] == name for one in listed), f"token {name} is gone")
            for old in value.ended[-1:]:
                self._expect(not self._works(old), f"an old token of {name} works again")
        for name, value in self._truth.tokens.items():
            if value.doubtful:
                self._settle(name)

    def _settle(self, name: str) -> None:
        """Nobody knows what came of the last change: take the token away, so that the truth is known again."""
        at = f"/v1/tenants/{OTHERS[0]}/tokens/{name}"
        status = self._gateway_control("DELETE", at)[0]
        self._expect(status in (204, 404), f"token {name} cannot be revoked: {status}")
        self._truth.tokens[name].ack("")

    def secrets(self) -> None:
        """Each has its last value, or one that was asked for after it."""
        listed = self._control("GET", f"/v1/tenants/{TENANT}/secrets")["secrets"]
        versions = {one["name"]: one["version"] for one in listed}
        for name, asked in self._truth.secrets.items():
            version = versions.get(name, 0)
            self._expect(
                int(asked.where) <= version <= asked.count, f"secret {name} has version {version}, not {asked}"
            )
            asked.count, asked.where = version, str(version)

    def settings(self) -> None:
        """What the tenant itself set."""
        shown = self._rpc("config.get", {})["config"].get("display_name") or ""
        value = self._truth.display_name
        self._expect(shown in value.possible, f"display_name is {shown!r}, none of {value.possible}")
        value.ack(shown)

    def commits(self) -> None:
        """Every change of YAML is one commit, all of it is in the files, and the repository is whole."""
        told = _git(self._gateway.tenants_dir, "log", "-p", "--format=%H")
        added = Counter(line[1:].strip() for line in told.splitlines() if line.startswith("+ "))
        self._held("commit", self._truth.commits, lambda line: added[line])
        if self.problems and "commit" in self.problems[-1]:
            self.problems.append(told)
        whole = subprocess.run(
            ["git", "-c", "safe.directory=*", "-C", str(self._gateway.tenants_dir), "fsck", "--no-dangling"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        self._expect(whole.returncode == 0, f"git fsck: {whole.stdout}{whole.stderr}")
        # A change that was cut short may be in its file without a commit: an edit that nobody was told is taken.
        changed = _git(self._gateway.tenants_dir, "status", "--porcelain").splitlines()
        strange = [line for line in changed if line[3:].removesuffix(".yaml") not in OTHERS]
        self._expect(not strange, f"tenants.d is not as it was committed: {strange}")
        for tenant in OTHERS:
            status = self._control("GET", f"/v1/tenants/{tenant}")
            self._expect(not status.get("problem"), f"{tenant} is declared wrongly: {status}")

    def left_behind(self) -> None:
        """No temporary files."""

        # A git that a full disk stopped leaves an object half written; the next start takes it away.
        passed_over = "tmp_obj_" if self._failing else "/sandbox/"

        def left() -> list[str]:
            # A sandbox' files are its own affair.
            home = self._gateway.home
            return [
                str(path.relative_to(home)) for path in _walk(home)
                if _LEFT.search(path.name) and "/sandbox/" not in str(path) and passed_over not in str(path)
            ]  # fmt: skip

        until(lambda: not left(), seconds=self._patience)
        self._expect(not left(), f"left behind: {left()}")

    # --- asking ---

    def _held(self, what: str, asked: dict[str, Asked], count: Callable[[str], int]) -> None:
        lost, doubled = [], []
        for name, one in asked.items():
            found = count(name)
            if one.acked and found < one.count:
                lost.append(name)
            if found > one.count:
                doubled.append(name)
        self._expect(not lost, f"{what} lost: {lost}")
        self._expect(not doubled, f"{what} doubled: {doubled}")

    def _expect(self, good: bool, problem: str) -> None:
        if not good:
            self.problems.append(problem)

    def _rpc(self, method: str, params: object) -> Any:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        reply = self._gateway.request("POST", "/rpc", body, token=self._token).json()
        if "result" not in reply:
            raise AssertionError(f"{method}: {reply}")
        return reply["result"]

    def _everything(self, method: str, kind: str) -> Sequence[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        params: dict[str, Any] = {"limit": _PAGE}
        while True:
            page = self._rpc(method, params)
            found += page[kind]
            if not page.get("next"):
                return found
            params["cursor"] = page["next"]

    def _works(self, token: str) -> bool:
        reply = self._gateway.request("GET", "/v1/models", token=token)
        assert reply.status in (200, 401, 429), reply
        return reply.status == 200

    def _control(self, method: str, path: str) -> Any:
        status, text = self._gateway_control(method, path)
        if status >= 300:
            raise AssertionError(f"{method} {path}: {status} {text}")
        return json.loads(text)

    def _gateway_control(self, method: str, path: str) -> tuple[int, str]:
        done = subprocess.run(
            ["curl", "-sS", "--unix-socket", str(self._gateway.state_dir / "run" / "control.sock"), "-X", method, "-w",
             "\n%{http_code}", f"http://carrel{path}"], capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        text, _, status = done.stdout.rpartition("\n")
        return int(status), text


def rows_of(path: Path, query: str) -> list[tuple[str, str]]:
    """What ``query`` finds in a database that somebody writes to meanwhile."""
    deadline = time.monotonic() + 20
    while True:
        try:
            database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
            try:
                return list(database.execute(query))
            finally:
                database.close()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                # It was made, and nothing was entered yet.
                return []
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _git(top: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-c", "safe.directory=*", "-C", str(top), *words], capture_output=True, text=True, check=False
    )  # fmt: skip
    return done.stdout if done.returncode == 0 else f"git {words[0]} failed: {done.stderr}"


def _walk(top: Path) -> Iterator[Path]:
    try:
        entries = list(top.iterdir())
    except OSError:
        return
    for path in entries:
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path)


def _parts(of: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (of[at : at + size] for at in range(0, len(of), size))


def _has(text: str, word: str) -> bool:
    return re.search(rf"{re.escape(word)}(?!\d)", text) is not None
