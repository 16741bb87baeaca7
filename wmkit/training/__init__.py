"""Training: the loop, its checkpoints and records, diagnostics of latents, optimisers."""
