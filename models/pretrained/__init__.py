"""Checkpoints that ship with wmkit, one folder each, loaded as `pretrained:NAME`."""
