"""The tools, a folder a verb; none imports another."""
