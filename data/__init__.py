"""Small scenes with ground truth, installed as nerf_app.data: the first run, and what tests and benchmarks look at."""
