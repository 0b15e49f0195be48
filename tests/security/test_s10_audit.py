"""10.1: what is in the record is inert, the chain verifies, and a disk that is full stops changes and not reads."""

import json
from pathlib import Path

from carrel.audit.log import Audit, verify_directory
from tests.fakes.clock import FakeClock


async def a_record(path: Path) -> Audit:
    audit = Audit(state_dir=path, clock=FakeClock())
    await audit.start()
    for target in ("acme", "bravo", "evil\n\x1b]0;owned\x07\u202etxt"):
        await audit.record(actor="ak_ops", action="tenants.create", target=target, request_id="r", outcome="ok")
    return audit


async def test_S10_01_control_esc_and_bidi_characters_are_inert(tmp_path: Path) -> None:
    await a_record(tmp_path)
    raw = next((tmp_path / "audit").glob("*.jsonl")).read_bytes()
    assert raw.count(b"\n") == 3
    assert b"\x1b" not in raw
    assert "\u202e".encode() not in raw


async def test_S10_01_ordinary_text_stays_readable(tmp_path: Path) -> None:
    audit = await a_record(tmp_path)
    page = await audit.page(after=None, limit=10, tenant=None)
    assert [line["target"] for line in page.lines][:2] == ["acme", "bravo"]


async def test_S10_01_the_chain_verifies(tmp_path: Path) -> None:
    await a_record(tmp_path)
    assert verify_directory(tmp_path / "audit") == []


async def test_S10_01_every_edit_of_every_member_is_found(tmp_path: Path) -> None:
    await a_record(tmp_path)
    day = next((tmp_path / "audit").glob("*.jsonl"))
    lines = day.read_bytes().splitlines(keepends=True)
    for at, line in enumerate(lines):
        for member in json.loads(line):
            changed = json.loads(line)
            changed[member] = "changed" if member != "n" else 77
            forged = json.dumps(changed, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
            day.write_bytes(b"".join([*lines[:at], forged, *lines[at + 1 :]]))
            assert verify_directory(tmp_path / "audit"), (at, member)
    day.write_bytes(b"".join(lines))
    assert verify_directory(tmp_path / "audit") == []
