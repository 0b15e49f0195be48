"""What is told is inert, bounded, and counted whole."""

import json

from carrel.imports import report
from carrel.imports.report import Report


def test_it_counts_and_tells() -> None:
    told = Report()
    told.add("session", "a\x1b[2J\udcff", "taken")
    told.add("session", "b", "refused", "x" * 1000)
    document = told.document()
    assert document["counts"] == {"session": {"refused": 1, "taken": 1}}
    assert "\x1b" not in json.dumps(document, ensure_ascii=False)
    assert len(told.items[1].detail) < 310


def test_of_very_many_only_the_number_stays() -> None:
    told = Report()
    for number in range(report.MOST + 7):
        told.add("file", str(number), "left")
    assert (len(told.items), told.document()["more"]) == (report.MOST, 7)
