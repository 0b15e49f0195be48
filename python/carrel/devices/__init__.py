"""Devices and nodes of a tenant: paired by a short code or a request, let in by tokens of their own, and reached."""
