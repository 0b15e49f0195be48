"""What hands the command on to the gateway that it becomes. The whole is tried from outside, in tests/system."""

import os
from pathlib import Path

from carrel.cli.gateway_options import GatewayOptions
from carrel.main.launch import TOLD, told

OPTIONS = GatewayOptions("127.0.0.1", 9, Path("/t"), Path("/s"), None, "info", False)


def test_what_was_told_counts_in_the_process_that_it_was_made_for_and_once() -> None:
    environ = {TOLD: f"{os.getpid()}:{OPTIONS.text()}", "PATH": "/bin"}
    assert told(environ) == OPTIONS
    assert environ == {"PATH": "/bin"}
    assert told(environ) is None


def test_what_another_process_was_told_is_not_for_this_one_or_its_children() -> None:
    environ = {TOLD: f"{os.getpid() + 1}:{OPTIONS.text()}"}
    assert told(environ) is None
    assert environ == {}
