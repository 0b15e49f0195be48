"""Terminals: shells of tenants' people in their tenant's sandbox, which live on while nobody looks.

It must not know who looks (a page, a command, a script): those are viewers, told through a protocol.
"""
