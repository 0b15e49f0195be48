"""A model vendor on a real socket that speaks OpenAI's and Anthropic's wire formats and fails as it is told."""

from tests.fakes.vendor.scripts import BUILT_IN, FakeCall, Script
from tests.fakes.vendor.server import FakeVendor, Received

__all__ = ["BUILT_IN", "FakeCall", "FakeVendor", "Received", "Script"]
