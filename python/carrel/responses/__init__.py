"""Responses that are kept for whoever asked, and those that are made while nobody waits."""
