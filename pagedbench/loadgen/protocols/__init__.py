"""The requests and replies of servers' APIs. Nothing here does input or output."""
