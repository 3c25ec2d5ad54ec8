"""Flags that programs which use a model share: how it is held in memory, how tokens are drawn, what answers its calls."""

from typing import TYPE_CHECKING

from absl import flags

if TYPE_CHECKING:  # JAX is imported late
    from lm.inference.sampling import Sampling
    from lm.model.transformer import Transformer


def define_tools(default: str) -> None:
    """--tools and --search: what `launch.talking.make_toolbox` is asked for."""
    flags.DEFINE_list(
        "tools", default, "What answers a model's calls: python, search, both, none; auto: what it learnt with."
    )
    flags.DEFINE_string(
        "search", None, "What is searched: a source of documents (data_pipeline/sources.py); else the school's library."
    )


def define_quantization() -> None:
    """--quantize and --quantize_cache."""
    flags.DEFINE_enum(
        "quantize", None, ["int8", "int4"], "Hold the weights as integers with scales: less memory, a little worse."
    )
    flags.DEFINE_bool("quantize_cache", False, "Hold the keys and values of what was read in int8.")


def quantized(model: "Transformer") -> "Transformer":
    """The model as --quantize wants it."""
    from lm.inference import quantization

    kind = flags.FLAGS.quantize
    return quantization.quantized(model, kind) if kind else model


def define_sampling() -> None:
    """A flag for each field of `Sampling`."""
    flags.DEFINE_float("temperature", 0.8, "Below 1: safer words; above: wilder; 0: always the most likely.")
    flags.DEFINE_integer("top_k", 0, "Choose among the k most likely tokens only; 0: among all.")
    flags.DEFINE_float("top_p", 1.0, "Choose among the fewest tokens that together have this probability.")
    flags.DEFINE_float("min_p", 0.0, "Choose among tokens at least this likely relative to the likeliest only.")
    flags.DEFINE_float("repetition_penalty", 1.0, "Above 1: what was there already becomes less likely.")


def sampling() -> "Sampling":
    """What the flags say. Raises `UserError` for values that make no sense."""
    from lm.inference.sampling import Sampling, check_sampling

    asked = Sampling(**{name: getattr(flags.FLAGS, name) for name in Sampling.__dataclass_fields__})
    check_sampling(asked)
    return asked
