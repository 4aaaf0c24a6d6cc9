"""`pagedbench plan`: how many replicas of what meet an objective, by simulating them behind a router."""
