"""Block tables by layer group, where layers keep different tokens: sliding windows, hybrids."""
