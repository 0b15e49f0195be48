"""What a model call is to the ledger, under the name that the edges know it by; see `policy.calls`."""

from carrel.policy.calls import Call, Meter, Outcome, Reservation, ToolEnding

__all__ = ["Call", "Meter", "Outcome", "Reservation", "ToolEnding"]
