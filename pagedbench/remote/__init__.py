"""Runs against foreign servers (not this program's engines): the same requests, records and results."""
