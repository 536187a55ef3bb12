"""torchvision must import beside a torch without its operators, and be left alone beside one that has them."""

import subprocess
import sys


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_timm_and_lightning_import_after_it():
    done = python("import knowngood.models.torchvision_ops, timm, lightning.pytorch; print(timm.__version__)")
    assert done.returncode == 0, done.stderr


def test_it_declares_operators_only_when_the_real_import_fails():
    done = python(
        "import sys, types\n"
        "sys.modules['torchvision'] = types.ModuleType('torchvision')  # a matching wheel imports without trouble\n"
        "from knowngood.models.torchvision_ops import make_importable\n"
        "assert make_importable() is False\n"
    )
    assert done.returncode == 0, done.stderr


def test_another_failure_is_not_hidden():
    done = python(
        "import importlib, sys\n"
        "real = importlib.import_module\n"
        "def broken(name, *rest):\n"
        "    if name == 'torchvision':\n"
        "        raise RuntimeError('quite another trouble')\n"
        "    return real(name, *rest)\n"
        "importlib.import_module = broken\n"
        "import knowngood.models.torchvision_ops\n"
    )
    assert done.returncode != 0
    assert "quite another trouble" in done.stderr
