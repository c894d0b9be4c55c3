"""A run while it goes on: the loop over epochs, its steps and state, signals, and several processes in step.

`loop.train` is where to start. Importing this package doesn't import torch; importing `loop` does.
"""
