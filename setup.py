"""How nerf_app is installed. The top-level folders configs/ and data/ travel inside the package as nerf_app.configs
and nerf_app.data, so that an installed program finds its presets and its first scene without the checkout."""

import importlib.util
import re
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent


class BuildKernels(build_ext):
    """Compiles the C++ kernels where there is a compiler; nerf_app works without them, only slower."""

    def get_ext_filename(self, fullname: str) -> str:
        return str(Path(*fullname.split("."))) + ".so"

    def run(self) -> None:
        library = Path(ROOT if self.inplace else self.build_lib, self.get_ext_filename(self.extensions[0].name))
        library.unlink(missing_ok=True)  # one of older sources would not fit
        failure = compile_kernels()(library.parent)
        if failure:
            self.warn(f"the C++ kernels were not built, nerf_app will compute with plain torch: {failure}")


def compile_kernels():
    """nerf_app/ops/build.py's function, without importing the package."""
    spec = importlib.util.spec_from_file_location("build_kernels", ROOT / "nerf_app" / "ops" / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.build


def version() -> str:
    """As nerf_app/__init__.py has it, read without importing it."""
    text = (ROOT / "nerf_app" / "__init__.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE).group(1)


def long_description() -> str:
    readme = ROOT / "README.md"
    return readme.read_text(encoding="utf-8") if readme.exists() else ""


setup(
    name="nerf-app",
    version=version(),
    description="A folder of posed photos becomes a radiance field and new views of it, on a laptop's CPU or a GPU",
    long_description=long_description(),
    long_description_content_type="text/markdown",
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=[*find_packages(include=["nerf_app", "nerf_app.*"]), "nerf_app.configs", "nerf_app.data"],
    package_dir={"nerf_app.configs": "configs", "nerf_app.data": "data"},
    package_data={"nerf_app.configs": ["*.yaml"], "nerf_app.data": ["*.md", "LICENSE", "*/**/*"],
                  "nerf_app.ops": ["*/*.cpp", "*/*.hpp"], "nerf_app.report": ["*.html", "*.css", "*.js"]},
    include_package_data=False,
    ext_modules=[Extension("nerf_app.ops.native.kernels", sources=[], optional=True)],
    cmdclass={"build_ext": BuildKernels},
    entry_points={"console_scripts": ["nerf-app = nerf_app.cli:main"]},
    install_requires=[
        "torch>=2.10",
        "numpy",
        "PyYAML",
        "msgspec",
        "rich<15",
        "Pillow>=12.3",
        "imageio",
        "opencv-python-headless",
        "av",
        "safetensors",
        "pillow-heif",
        "scikit-image",
        "fast-simplification",
        "xatlas; python_version < '3.14'",  # its wheels end there; without it textures show more seams
    ],
    extras_require={
        "sfm": ["pycolmap"],
        "open3d": ["open3d"],  # `export mesh --method blocks` and poisson
        "scenes": ["mitsuba", "fast-simplification", "trimesh", "scikit-image", "scipy"],  # tools/make_scene.py
        "gpu": ["triton>=3.6; sys_platform == 'linux'"],  # every CUDA build of torch brings it
        "dev": ["pytest", "hypothesis", "ruff", "setuptools>=77", "wheel", "pycolmap", "trimesh", "scikit-image", "scipy",
                "triton==3.7.1; sys_platform == 'linux'"],
    },
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Environment :: Console",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Multimedia :: Graphics :: 3D Modeling",
        "Topic :: Scientific/Engineering :: Image Processing",
    ],
)
