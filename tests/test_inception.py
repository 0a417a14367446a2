"""The FID's network against torch-fidelity's and torchmetrics', with random weights: the true ones are a download."""

import hashlib
import importlib.util
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from diffusion_core import inception
from diffusion_core.images import to_tensor
from diffusion_core.inception import Inception, download_inception, find_weights, load_inception, resize
from diffusion_core.metrics import FeatureStats, frechet_distance, inception_score, kid

NAME = "weights-inception-2015-12-05-6726825d.pth"
SIZES = {"colour": (4, 3, 32, 32), "grey": (4, 1, 28, 28), "large": (2, 3, 320, 310)}
N = 5

fidelity = pytest.mark.skipif(
    importlib.util.find_spec("torch_fidelity") is None, reason="torch-fidelity, of tests/requirements.txt, is missing"
)


def random_weights() -> dict[str, torch.Tensor]:
    """He et al.'s deviation keeps activations finite; no statistic of a normalisation is 0 or 1, so that all count."""
    g = torch.Generator().manual_seed(0)
    weights = {}
    for name, v in Inception().state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue  # as in the published file
        if name.endswith("running_var"):
            weights[name] = 0.5 + torch.rand(v.shape, generator=g)
        elif name.endswith("bn.weight"):
            weights[name] = 1 + 0.2 * torch.randn(v.shape, generator=g)
        else:
            std = (2 / v[0].numel()) ** 0.5 if v.ndim > 1 else 0.2
            weights[name] = std * torch.randn(v.shape, generator=g)
    return weights


def pictures(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """uint8 [B, C, H, W]: noise of a few hues, contrasts and grains, so that features differ."""
    g = torch.Generator().manual_seed(seed)
    b, c, h, w = shape
    shade = 255 * torch.rand(b, c, 1, 1, generator=g)
    contrast = 150 * torch.rand(b, 1, 1, 1, generator=g)
    coarse = torch.randn(b, c, 4, 4, generator=g)
    noise = nn.functional.interpolate(coarse, (h, w)) + 0.3 * torch.randn(b, c, h, w, generator=g)
    return (shade + contrast * noise).clamp(0, 255).byte()


def ours(x: torch.Tensor) -> torch.Tensor:
    """uint8 -> [-1, 1]"""
    return to_tensor(x.movedim(1, -1).numpy())


@pytest.fixture(scope="module")
def weights():
    return random_weights()


@pytest.fixture(scope="module")
def file(weights, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(weights, path)
    return path


@pytest.fixture(scope="module")
def network(file):
    return load_inception(file)


@pytest.fixture(scope="module")
def theirs(file):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    return FeatureExtractorInceptionV3("theirs", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(file))


@pytest.fixture(scope="module")
def seen(network):
    """Features [N, 2048] of two sets of pictures."""
    return [network.features(ours(pictures((N, 3, 32, 32), seed))).double() for seed in (1, 2)]


# The network ------------------------------------------------------------------------------------------------------


@fidelity
@pytest.mark.parametrize("size", SIZES)
def test_features_and_logits_are_torch_fidelitys(network, theirs, size):
    u = pictures(SIZES[size], seed=1)
    features, logits = theirs(u.expand(-1, 3, -1, -1))
    found = network.features(ours(u))
    assert features.std(dim=0).mean() > 0.05 * features.std(), "the pictures look all the same"
    torch.testing.assert_close(found, features, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(network.head(found), logits, rtol=1e-4, atol=1e-4)


def test_forward_is_the_head_of_the_features(network):
    x = ours(pictures((1, 3, 32, 32), seed=1))
    features = network.features(x)
    assert features.shape == (1, network.num_features)
    assert torch.equal(network(x), network.head(features))
    torch.testing.assert_close(network.head(0 * features), torch.zeros(1, 1008))  # no bias


def test_it_sees_the_levels_of_a_picture_file(network):
    x = ours(pictures((1, 3, 32, 32), seed=1))
    assert torch.equal(network.features(x + 0.4 / 127.5), network.features(x))
    assert torch.equal(network.features(3 * x), network.features((3 * x).clamp(-1, 1)))


def test_it_stays_in_evaluation_mode_without_gradients(network):
    nn.Sequential(network).train()
    assert not any(module.training for module in network.modules())
    assert not network(ours(pictures((1, 1, 28, 28), seed=1))).requires_grad


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 2, 32, 32)])
def test_other_shapes_are_refused(network, shape):
    with pytest.raises(ValueError, match=r"images \[B, 1 or 3, H, W\], not \["):
        network.features(torch.zeros(shape))


@pytest.mark.parametrize("n, side", [(4, 8), (4, 6), (5, 3), (1, 3), (4, 4)])
def test_resized_pixels_lie_at_multiples_of_the_ratio(n, side):
    at = (torch.arange(side) * n / side).clamp(max=n - 1)  # beyond the last pixel, it is repeated
    ramp = torch.arange(n).float()
    torch.testing.assert_close(resize(ramp.expand(1, 1, n, n), side), at.expand(1, 1, side, side))
    torch.testing.assert_close(resize(ramp[:, None].expand(1, 1, n, n), side), at[:, None].expand(1, 1, side, side))


def test_a_picture_made_smaller_is_not_smoothed():
    x = torch.rand(1, 1, 12, 8)
    assert torch.equal(resize(x, 4), x[:, :, ::3, ::2])


# The metrics ------------------------------------------------------------------------------------------------------


@fidelity
def test_fid_is_torch_fidelitys_and_torchmetrics(theirs, file, seen):
    """From the same pictures and weights, each with its own network, resizing and formula.

    2 N pictures span no more than 2 N of the 2048 dimensions. An orthonormal basis of those leaves every distance as
    it is, and spares each formula 15 s of a matrix with 2048 rows.
    """
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torchmetrics.image.fid import FrechetInceptionDistance

    basis = torch.linalg.qr(torch.cat(seen).T).Q  # [2048, 2 N]
    fid = frechet_distance(*(FeatureStats().update(features @ basis) for features in seen))

    class Spanned(nn.Module):
        num_features = 2 * N
        network = FrechetInceptionDistance(feature_extractor_weights_path=str(file), antialias=False).inception

        def forward(self, x):
            return self.network(x).double() @ basis

    metric, statistics = FrechetInceptionDistance(Spanned()), []
    for seed in (1, 2):
        u = pictures((N, 3, 32, 32), seed)
        metric.update(u, real=seed == 1)
        statistics.append(fid_features_to_statistics(theirs(u)[0].double() @ basis))
    of_fidelity = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert fid == pytest.approx(of_fidelity, rel=1e-3)
    assert fid == pytest.approx(metric.compute().item(), rel=1e-3)


@fidelity
def test_kid_is_torch_fidelitys(seen):
    """Their subsets are drawn in another order; a subset of all samples is the same in any order."""
    from torch_fidelity.metric_kid import kid_features_to_metric

    expected = kid_features_to_metric(*seen, kid_subsets=2, kid_subset_size=N, verbose=False)
    assert kid(*seen, subsets=2, subset_size=N)[0] == pytest.approx(expected["kernel_inception_distance_mean"])


@fidelity
def test_inception_score_is_torch_fidelitys(network, seen):
    """In one split: they shuffle samples into splits in another order."""
    from torch_fidelity.metric_isc import isc_features_to_metric

    logits = network.head(seen[0].float())
    expected = isc_features_to_metric(logits, splits=1, shuffle=False)["inception_score_mean"]
    assert expected > 1.01
    assert inception_score(logits, splits=1)[0] - 1 == pytest.approx(expected - 1)  # 1 is the score of nothing


# Files ------------------------------------------------------------------------------------------------------------


def test_both_formats_hold_the_same(weights, network, tmp_path):
    save_file(weights, tmp_path / "inception.safetensors")
    loaded = load_inception(tmp_path / "inception.safetensors").state_dict()
    assert all(torch.equal(v, loaded[name]) for name, v in network.state_dict().items())
    assert all(torch.equal(v, loaded[name]) for name, v in weights.items())


def test_counters_in_the_file_do_no_harm(network, tmp_path):
    torch.save(network.state_dict(), tmp_path / "inception.pth")
    load_inception(tmp_path / "inception.pth")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty folder of torch.hub's."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("FID_INCEPTION", raising=False)
    folder = tmp_path / "torch/hub/checkpoints"
    folder.mkdir(parents=True)
    return folder


def test_weights_are_found_where_told_then_where_downloaded(hub, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"download_inception\(\) puts weights-.*-6726825d.pth into .*hub"):
        find_weights()
    told, variable = tmp_path / "told.pth", tmp_path / "variable.pth"
    for path in (told, variable, hub / "pt_inception-2015-12-05-6726825d.pth"):
        path.touch()
    assert find_weights().name == "pt_inception-2015-12-05-6726825d.pth"
    (hub / NAME).touch()
    assert find_weights() == hub / NAME
    monkeypatch.setenv("FID_INCEPTION", str(variable))
    assert find_weights() == variable
    assert find_weights(str(told)) == told


def test_where_a_path_is_given_no_other_is_tried(hub, tmp_path, monkeypatch):
    (hub / NAME).touch()
    with pytest.raises(FileNotFoundError, match="There is no file .*told.pth; the weights of Inception"):
        load_inception(tmp_path / "told.pth")
    monkeypatch.setenv("FID_INCEPTION", str(tmp_path / "variable.pth"))
    with pytest.raises(FileNotFoundError, match="There is no file .*variable.pth, where FID_INCEPTION points;"):
        load_inception()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("damage", ["empty", "cut off", "text"])
def test_damaged_files_are_refused(tmp_path, suffix, damage):
    path = tmp_path / f"inception{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)({"fc.weight": torch.zeros(1008, 2048)}, path)
    data = path.read_bytes()
    path.write_bytes({"empty": b"", "cut off": data[: len(data) // 2], "text": b"<html>Not Found</html>"}[damage])
    with pytest.raises(ValueError, match=f"inception{suffix} is damaged or no file of weights"):
        load_inception(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda weights: weights | {"fc.weight": torch.zeros(1000, 2048)},
        lambda weights: {k: v for k, v in weights.items() if k != "fc.bias"},
        lambda weights: weights | {"AuxLogits.fc.bias": torch.zeros(1000)},
        lambda weights: weights | {"fc.bias": "nothing"},
        lambda weights: list(weights),
    ],
    ids=["shape", "missing", "more", "no tensor", "list"],
)
def test_other_weights_are_refused(weights, tmp_path, change):
    torch.save(change(weights), tmp_path / "other.pth")
    with pytest.raises(ValueError, match="other.pth holds other weights than those of the FID's Inception"):
        load_inception(tmp_path / "other.pth")


class Trap:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("save", [torch.save, lambda v, path: path.write_bytes(pickle.dumps(v))])
def test_nothing_in_a_file_is_executed(tmp_path, save):
    save({"fc.bias": Trap(tmp_path / "sprung")}, tmp_path / "trap.pth")
    with pytest.raises(ValueError, match="trap.pth is damaged or no file of weights"):
        load_inception(tmp_path / "trap.pth")
    assert not (tmp_path / "sprung").exists()


# Download ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def published(hub, tmp_path, monkeypatch):
    """A file on a "server", with the first digits of its SHA-256 in its name as the real one has."""
    data = b"weights"
    path = tmp_path / f"weights-{hashlib.sha256(data).hexdigest()[:8]}.pth"
    path.write_bytes(data)
    monkeypatch.setattr(inception, "URL", path.as_uri())
    monkeypatch.setattr(inception, "NAMES", (path.name,))
    return path


def test_download_goes_where_weights_are_found(published, hub):
    assert download_inception(progress=False) == find_weights() == hub / published.name
    assert find_weights().read_bytes() == b"weights"
    published.unlink()
    assert download_inception(progress=False) == hub / published.name  # there already


def test_a_damaged_download_is_fetched_again(published, hub):
    (hub / published.name).write_bytes(b"weig")
    assert download_inception(progress=False).read_bytes() == b"weights"


def test_what_arrives_damaged_is_not_kept(published, hub):
    published.write_bytes(b"login page")
    with pytest.raises(OSError, match="Could not download file.*invalid hash"):
        download_inception(progress=False)
    assert list(hub.iterdir()) == []


def test_no_network_is_said_in_one_sentence(published, hub):
    published.unlink()
    with pytest.raises(OSError, match=r"^Could not download file://.*: .*No such file.*\.$"):
        download_inception(progress=False)
    assert list(hub.iterdir()) == []
