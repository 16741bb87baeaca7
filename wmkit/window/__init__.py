"""The live window: a controller plays, a person interferes, and what the model thinks is drawn beside it."""
