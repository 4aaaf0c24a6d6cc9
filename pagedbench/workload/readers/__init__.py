"""Readers of published traces, one module per family of formats; `formats` chooses by the content."""
