"""The load generator: sends the requests of a trace to a server of others, and observes the replies."""
