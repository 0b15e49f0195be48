"""The database that all agents share: each table of it is taken, or told."""

from pathlib import Path

import apsw

from carrel.imports.openclaw import State
from carrel.imports.report import Report
from carrel.imports.source import Source
from carrel.imports.state_database import StateDatabase, read
from tests.fakes.openclaw import databases, put


def test_none_and_one_that_is_none(tmp_path: Path) -> None:
    report = Report()
    with Source(tmp_path) as source:
        assert read(source, report) == StateDatabase()
        assert report.items == []
        put(tmp_path, {"state/openclaw.sqlite": b"x" * 5000})
        assert read(source, report) == StateDatabase()
    assert [(item.name, item.outcome) for item in report.items] == [("state/openclaw.sqlite", "refused")]


def test_people_words_and_other_tables(tmp_path: Path) -> None:
    top = databases(tmp_path / "top")
    (top / "settings").mkdir()
    (top / "settings/voicewake.json").write_text('{"triggers": ["old"]}')
    kept = apsw.Connection(str(top / "state/openclaw.sqlite"))
    kept.execute("""
        CREATE TABLE channel_pairing_allow_entries (channel_key, account_id, entry, sort_order, updated_at);
        INSERT INTO channel_pairing_allow_entries VALUES
            ('telegram', 'default', '42', 1, 0), ('telegram', 'default', '7', 0, 0);
        CREATE TABLE voicewake_triggers (config_key, position, trigger, updated_at_ms);
        INSERT INTO voicewake_triggers VALUES ('default', 1, 'lobster', 0), ('default', 0, 'molty', 0), ('x', 0, '', 0);
        CREATE TABLE cron_run_logs (entry_json);
        INSERT INTO cron_run_logs VALUES ('{}'), ('{}');
        CREATE TABLE "odd ""name" (a);
        INSERT INTO "odd ""name" VALUES (1);
        CREATE TABLE empty (a);
    """)
    kept.close()
    with Source(top) as source:
        state = State(source)
        state.look()
    assert state.settings.channels["access"] == {"telegram/default-allowFrom": {"version": 1, "allowFrom": ["7", "42"]}}
    assert state.wake == ("molty", "lobster")
    told = {item.name: (item.outcome, item.detail) for item in state.report.items}
    path = "state/openclaw.sqlite"
    assert told[path][0] == "changed"
    assert told[f"{path}#cron_run_logs"] == ("left", "2 rows: the history of jobs: runs begin anew")
    assert told[f'{path}#odd "name'][0] == "left"
    assert f"{path}#empty" not in told
