"""Looks at a scene without training: what is wrong with it, and the cure."""
