"""Eight simulated CPU devices for the tests of meshes. Tests that use one device run as before.

Set through `jax.config`, not `XLA_FLAGS`, so that programs which tests start see the machine as it is.
"""

import gc
import os
import shutil
import tempfile

import hypothesis
import jax
import pytest

# Tests compile much and compute little. By XLA's older emitters of kernels, and less optimised, the same programs compile in a
# fifth of the time. In the environment for the programs that tests start.
QUICK = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
os.environ["XLA_FLAGS"] = f"{QUICK} {os.environ.get('XLA_FLAGS', '')}"
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
jax.config.update("jax_disable_most_optimizations", True)
if "xla_force_host_platform_device_count" not in os.environ["XLA_FLAGS"]:
    jax.config.update("jax_num_cpu_devices", 8)
# What tests, and the programs that they start, keep for one another: tokenizers, tokenized documents, compiled programs.
CACHE = os.environ["TRIVIUM_CACHE"] = tempfile.mkdtemp(prefix="trivium-tests-")
jax.config.update("jax_compilation_cache_dir", f"{CACHE}/compiled")
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
# A GPU multiplies float32 matrices in TF32 unless told otherwise; the references are exact. No effect on a CPU.
jax.config.update("jax_default_matmul_precision", "highest")

# Tracing allocates much that lives long: Python looks less often for cycles among it.
gc.set_threshold(10_000)

# The first example of a property compiles; the rest take a millisecond.
hypothesis.settings.register_profile("compiling", deadline=None)
hypothesis.settings.load_profile("compiling")


def pytest_unconfigure() -> None:
    shutil.rmtree(CACHE, ignore_errors=True)


@pytest.fixture
def eight_devices() -> list[jax.Device]:
    """The simulated devices."""
    if jax.default_backend() != "cpu":
        pytest.skip(f"meshes are simulated with CPU devices and the default backend is {jax.default_backend()}")
    if len(jax.devices()) < 8:
        pytest.skip(f"XLA_FLAGS asks for {len(jax.devices())} CPU devices and the tests of meshes need 8")
    return jax.devices()[:8]
