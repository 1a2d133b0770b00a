"""One matrix of a step, against arithmetic in double precision."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.native.conftest import make_model

NUM_ROWS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 17, 100)  # full, partial and several tiles; more than one block of packed rows


def native_linear(runner, linear, x: Tensor) -> Tensor:
    y = torch.empty(x.shape[0], linear.rows)
    runner.multiply(linear, x, y)
    return y


def layer_of(model, runner):
    """A matrix with a bias, its weights [rows, columns] and its bias."""
    module = model.model.layers[1].mlp.down_proj
    return runner.model.native.layers[1].mlp_output, module.weight.double(), module.bias.double()


@pytest.mark.parametrize("num_rows", NUM_ROWS)
def test_fp32_products_are_exact_to_rounding(num_rows, make_runner, all_kernels):
    model = make_model("llama, biases")
    for kernels in all_kernels:
        linear, weight, bias = layer_of(model, runner := make_runner(model, kernels=kernels))
        x = torch.randn(num_rows, linear.columns)
        expected = x.double() @ weight.T + bias
        torch.testing.assert_close(native_linear(runner, linear, x).double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("num_rows", NUM_ROWS)
def test_int8_products_err_by_the_rounding_of_their_factors(num_rows, make_runner, all_kernels):
    model = make_model("llama, biases")
    for kernels in all_kernels:
        linear, weight, bias = layer_of(model, runner := make_runner(model, kernels=kernels, precision="int8"))
        x = torch.randn(num_rows, linear.columns)
        x[:, 3] *= 50  # an outlier must not reduce the other columns' precision
        error = native_linear(runner, linear, x).double() - (x.double() @ weight.T + bias)
        # half a step of each weight and, if activations have 8 bits, of each activation
        weight_step, x_step = weight.abs().max() / 127, x.abs().double().amax(1, keepdim=True) / 127
        bound = x.abs().double().sum(1, keepdim=True) * weight_step / 2 + 32 * x_step / 2 * weight.abs().max()
        assert (error.abs() <= bound).all(), kernels
        assert error.norm() / (x.double() @ weight.T).norm() < 0.02, kernels


def test_zero_rows_give_the_bias(make_runner, all_kernels):
    model = make_model("llama, biases")
    for kernels in all_kernels:
        linear, _, bias = layer_of(model, runner := make_runner(model, kernels=kernels, precision="int8"))
        y = native_linear(runner, linear, torch.zeros(2, linear.columns))
        assert torch.equal(y, bias.float().expand(2, -1))
