"""Presets, installed as nerf_app.configs: base.yaml shows every setting, the others hold differences only."""
