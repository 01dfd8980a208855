"""Load: a case run many times at a pace, measured, and judged as a whole.

`pace` says when, `generator` does it, `iterations` and `plain` are what is done, `meter` takes the
measures, `judging` gives the verdict, `figures` is what is kept of it, and `runner` puts them together.
"""
