"""`pagedbench capacity`: the highest rate, or the smallest pool, that meets a bound."""
