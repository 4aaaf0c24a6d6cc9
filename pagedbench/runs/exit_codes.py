"""Exit codes of the command line. Imports nothing: signals are handled before anything heavy is loaded.

If several apply, the first of these is returned: 130 (the rest never ran), 1 (a run crashed), 6 (runs
cannot be compared, so there is no verdict), 3 (a gate failed), 5 (`--strict`: the figures of an invalid
run prove nothing, not even that it met an SLO), 4. Reports are written first.
"""

CRASHED = 1
BAD_INPUT = 2
REGRESSION = 3
MISSED_SLO = 4
INVALID = 5
NOT_COMPARABLE = 6
INTERRUPTED = 130
