"""`pagedbench capacity`: the highest rate, or the least pool, that meets a bound."""
