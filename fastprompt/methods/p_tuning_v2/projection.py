"""P-Tuning v2's two-layer network in NumPy: a prompt file's bytes must not depend on a framework."""

import numpy


def project(
    embedding: numpy.ndarray,
    weight: numpy.ndarray,
    bias: numpy.ndarray,
    weight_out: numpy.ndarray,
    bias_out: numpy.ndarray,
) -> numpy.ndarray:
    """P-Tuning v2's two-layer network over the positions' embeddings (P, hidden), in float64 so that the result has the
    same bytes everywhere; weights are (out, in)."""
    embedding, weight, bias, weight_out, bias_out = (
        x.astype("float64") for x in (embedding, weight, bias, weight_out, bias_out)
    )
    return numpy.tanh(embedding @ weight.T + bias) @ weight_out.T + bias_out
