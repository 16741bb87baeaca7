"""Diffusion over sequences of actions and latents, shared by dynamics and proposals."""
