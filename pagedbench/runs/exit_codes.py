"""Exit codes of the command line. Imports nothing: signals are handled before anything heavy is loaded."""

CRASHED = 1
BAD_INPUT = 2
REGRESSION = 3
INVALID = 5
NOT_COMPARABLE = 6
INTERRUPTED = 130
