"""Measuring loaders beside each other: images/s, CPU time, memory and the wait for the first batch. Prints nothing.

`measure` is where to start: `measure.measure(settings)` returns a report. Each subject runs in a process of its own,
is first held against the reference's pixels, and is then timed in turns with the others.
"""
