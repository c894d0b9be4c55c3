"""With which numbers: an op of a recipe, a sample and an epoch give a record of what is to be done to that image.

`randomness` draws the numbers; `program` lays a recipe out as a table; `geometry` runs the table for one sample and
writes `records`, which every backend reads; `regions` says which part of an image a record needs.
"""
