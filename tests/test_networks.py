"""Shapes, labels and gradients of the networks."""

import json

import pytest
import torch

from diffusion_core.networks import MLP, UNet, network_from_config, sinusoids

TIME = torch.tensor([1.0, 500.0])


def small_unet(**kwargs):
    torch.manual_seed(0)
    return UNet(**{"channels": 1, "width": 16, "mults": (1, 2), "num_classes": 3} | kwargs).eval()


def small_mlp(**kwargs):
    torch.manual_seed(0)
    return MLP(**{"width": 16, "num_classes": 3} | kwargs).eval()


NETS = [pytest.param(small_unet, (1, 8, 8), id="unet"), pytest.param(small_mlp, (2,), id="mlp")]


def awake(net):
    """Away from the initialisation, whose zeros hide what lies behind them."""
    with torch.no_grad():
        for p in net.parameters():
            p += 0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1))
    return net


def images(*shape):
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "channels, side, kwargs",
    [
        (1, 8, {}),
        (1, 28, {"mults": (1, 2, 2)}),
        (1, 28, {"patch": 2}),
        (3, 32, {"mults": (1, 2, 2, 4), "blocks": 2}),
        (3, 32, {"attention": (1,)}),
        (4, 16, {"width": 48, "mults": (1, 1), "dropout": 0.1}),
        (3, 64, {"patch": 4, "num_classes": 0}),
    ],
)
def test_a_unet_puts_out_the_shape_of_its_input_and_begins_at_zero(channels, side, kwargs):
    net, x = small_unet(channels=channels, **kwargs), images(channels, side, side)
    out = net(x, TIME)
    assert out.shape == x.shape and (out == 0).all()
    assert awake(net)(x, TIME).std() > 0


def test_a_unet_takes_images_that_are_not_square():
    assert small_unet()(images(1, 8, 12), TIME).shape == (2, 1, 8, 12)


@pytest.mark.parametrize(
    "shape, kwargs", [((27, 28), {}), ((28, 30), {"mults": (1, 2, 2)}), ((30, 28), {"patch": 4, "mults": (1,)})]
)
def test_a_unet_refuses_sides_that_it_cannot_halve(shape, kwargs):
    net = small_unet(**kwargs)
    with pytest.raises(ValueError, match=f"multiple of {net.multiple}"):
        net(images(1, *shape), TIME)


@pytest.mark.parametrize("n", [1, 7])
def test_an_mlp_takes_points_of_its_dimension(n):
    assert small_mlp()(torch.zeros(n, 2), torch.zeros(n)).shape == (n, 2)
    assert small_mlp(dim=5)(torch.zeros(n, 5), torch.zeros(n)).shape == (n, 5)


@pytest.mark.parametrize("make, shape", NETS)
def test_no_class_and_the_null_class_are_the_same_and_other_classes_are_not(make, shape):
    net, x = awake(make()), images(*shape)
    assert torch.equal(net(x, TIME), net(x, TIME, torch.tensor([3, 3])))
    assert not torch.allclose(net(x, TIME), net(x, TIME, torch.tensor([0, 0])))


@pytest.mark.parametrize("make, shape", NETS)
def test_output_depends_on_the_time_and_on_each_samples_own_label_only(make, shape):
    net, x = awake(make()), images(*shape)
    both = net(x, TIME, torch.tensor([0, 2]))
    torch.testing.assert_close(both[1:], net(x[1:], TIME[1:], torch.tensor([2])), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(net(x, TIME), net(x, TIME + 100))


@pytest.mark.parametrize("make, shape", NETS)
def test_a_network_without_classes_runs_without_labels(make, shape):
    assert awake(make(num_classes=0))(images(*shape), TIME).isfinite().all()


@pytest.mark.parametrize("make, shape", NETS)
def test_a_network_is_deterministic(make, shape):
    net, x = awake(make()), images(*shape)
    assert torch.equal(net(x, TIME), net(x, TIME))
    assert torch.equal(net(x, TIME), awake(make())(x, TIME))


@pytest.mark.parametrize("make, shape", NETS)
def test_config_survives_json_and_rebuilds_the_network(make, shape):
    net, x = awake(make()), images(*shape)
    again = network_from_config(json.loads(json.dumps(net.config()))).eval()
    again.load_state_dict(net.state_dict())
    assert again.config() == net.config() and torch.equal(again(x, TIME), net(x, TIME))


@pytest.mark.parametrize("make, shape", [*NETS, pytest.param(lambda: small_unet(width=64), (1, 8, 8), id="wide")])
def test_every_parameter_receives_a_gradient(make, shape):
    net = awake(make())
    net(images(*shape), TIME, torch.tensor([0, 3])).square().sum().backward()
    largest = max(p.grad.abs().max() for p in net.parameters())
    dead = [name for name, p in net.named_parameters() if p.grad.abs().max() < 1e-7 * largest]
    assert not dead


def test_dropout_acts_in_training_only():
    net, x = awake(small_unet(dropout=0.5)), images(1, 8, 8)
    assert torch.equal(net(x, TIME), net(x, TIME))
    net.train()
    assert not torch.equal(net(x, TIME), net(x, TIME))


def test_the_time_embedding_tells_thousandths_apart_and_has_a_fixed_size():
    emb = sinusoids(torch.arange(1001.0), 64)
    torch.testing.assert_close(emb.square().sum(dim=1), torch.full((1001,), 32.0))
    distance = torch.cdist(emb.double(), emb.double()) + 10 * torch.eye(1001).double()
    assert distance.min() > 0.5


@pytest.mark.parametrize("config", [{"name": "vit"}, {}])
def test_an_unknown_network_is_refused_with_the_known_ones_named(config):
    with pytest.raises(ValueError, match="unet, mlp"):
        network_from_config(config)
