"""Knows when the model is wrong: surprise at run time, its calibration, and what to do about it."""
