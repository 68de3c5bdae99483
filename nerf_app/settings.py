"""Settings of a whole run that belong to no stage."""

from dataclasses import dataclass

from nerf_app.setting import setting


@dataclass(frozen=True)
class MachineSettings:
    seed: int = setting(0, "of every random number", low=0, high=2**31 - 1)
    threads: int | None = setting(None, "CPU threads; null: all that this process may use", low=1, high=1024)
    device: str = setting("auto", "auto, cpu, cuda or cuda:N")
    backend: str = setting("auto", "who computes: auto (the fastest that works here), reference, cpp, triton, tcnn",
                           choices=("auto", "reference", "cpp", "triton", "tcnn"))
