"""Runs on disk: from options to a folder, and back."""
