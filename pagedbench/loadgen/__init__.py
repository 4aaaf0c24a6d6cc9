"""The load generator: sends the requests of a trace to a foreign server, and observes the replies."""
