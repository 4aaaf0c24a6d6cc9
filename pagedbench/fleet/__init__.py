"""A fleet: engines in one virtual time, behind a router; tools decide what to serve and to measure."""
