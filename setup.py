"""The compiled kernel, an optional extension; everything else stands in pyproject.toml."""

import os
import sys

from setuptools import Extension, setup

FOLDER = "sfmts/kernels/cpu"
HEADERS = (
    "problem",
    "pool",
    "instruction_sets",
    "vectors",
    "matrix",
    "tiles",
    "forward",
    "backward",
    "recurrence",
    "projection",
    "bank",
    "resonator",
)

setup(
    ext_modules=[
        Extension(
            "sfmts.kernels._native",
            sources=[f"{FOLDER}/{name}.cpp" for name in ("module", "generic", "avx2", "avx512")],
            depends=[f"{FOLDER}/{name}.h" for name in HEADERS],
            language="c++",
            extra_compile_args=[
                "-std=c++17",
                "-O3",
                "-g0",
                "-fno-math-errno",  # not -ffast-math: at load time it would flush denormals in the whole process
                "-fno-trapping-math",
                "-ffp-contract=fast",
                "-fvisibility=hidden",
                "-Wno-psabi",
                *os.environ.get("SFMTS_COMPILE_ARGS", "").split(),  # last, so that they win: make sanitize
            ],
            extra_link_args=[] if sys.platform == "darwin" else ["-pthread"],
            py_limited_api=True,
            optional=True,  # without a compiler sfmts works, by its fused kernel
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
