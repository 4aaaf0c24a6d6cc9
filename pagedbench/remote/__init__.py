"""Runs against servers that are not of this program: the same requests, records and results."""
