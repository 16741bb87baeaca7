"""Recorded episodes: the store (`episodes`), collection (`collect`), splits, windows for training, and validation.

Only `windows` imports torch, so that processes which collect start fast.
"""
