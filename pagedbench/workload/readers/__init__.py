"""Readers of published traces, one module a family of formats; `formats` chooses by the content."""
