PYTHON ?= python3
BIN := .venv/bin
THREADS := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: help install demo examples docs docs-check experiments experiments-quick test test-slow lowest mutation sanitize lint types floors check

help:
	@echo "make demo       install, classify and forecast real series, draw plots (demo_output/)"
	@echo "make examples   run the gallery, pictures into example_output/ (minutes)"
	@echo "make docs       the documentation, into docs/_build/html (minutes the first time, then seconds)"
	@echo "make docs-check what was built, in headless Chromium (apt install chromium chromium-driver)"
	@echo "make experiments        do what is missing of the experiments (hours; may be stopped and goes on)"
	@echo "make experiments-quick  try all of them out on tiny data"
	@echo "make test       install, run the tests"
	@echo "make test-slow  the tests that train much or start processes, and the code of the documentation"
	@echo "make lowest     the test suite with the oldest supported versions (.venv-lowest)"
	@echo "make mutation   how many small changes of the code the tests notice (an hour)"
	@echo "make sanitize   the compiled kernel's tests under the address and undefined-behaviour sanitizers"
	@echo "make check      test, lint, types, import floors"

# torch first: the constraint names the tested build, and extras may then use what is there.
.venv/installed: pyproject.toml constraints.txt setup.py $(wildcard sfmts/kernels/cpu/*)
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

install: .venv/installed

demo: install
	$(BIN)/python examples/demo.py

examples: install
	for script in examples/plot_*.py; do $(THREADS) $(BIN)/python $$script || exit 1; done

docs: install
	$(THREADS) $(BIN)/python -m sphinx -W --keep-going --quiet docs docs/_build/html

docs-check: docs
	$(BIN)/python docs/check_site.py docs/_build/html --screenshots docs/_build/screenshots

EXPERIMENTS := waves music timit settings mechanism frequencies rivals
experiments: install
	failed=; for name in $(EXPERIMENTS); do $(THREADS) $(BIN)/python experiments/$$name.py || failed="$$failed $$name"; done; \
		$(BIN)/python experiments/report.py; test -z "$$failed" || { echo "runs failed in:$$failed"; exit 1; }

experiments-quick: install
	$(THREADS) $(BIN)/python -m pytest tests/test_experiments.py -m slow

test: install
	$(THREADS) $(BIN)/python -m pytest -m "not slow" --numprocesses 2

test-slow: install
	$(THREADS) $(BIN)/python -m pytest -m slow --numprocesses 2

# Names in pyproject.toml at their lowest versions, what these need at its newest.  An empty TORCH_BACKEND takes
# PyTorch from the index of everything else.
TORCH_BACKEND ?= cpu
.venv-lowest/installed: pyproject.toml setup.py $(wildcard sfmts/kernels/cpu/*)
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet uv
	.venv-lowest/bin/uv pip install --quiet --python .venv-lowest $(if $(TORCH_BACKEND),--torch-backend $(TORCH_BACKEND)) --resolution lowest-direct --editable ".[test]"
	touch $@

lowest: .venv-lowest/installed
	$(THREADS) .venv-lowest/bin/python -m pytest -m "not slow" --numprocesses 2

mutation: install
	$(BIN)/python tests/mutation.py

# A copy of the tree, as its extension is another one.  Python itself leaks by design.
SANITIZED := build/sanitized
# -fexpensive-optimizations contracts a b + c as the ordinary build does, so that float32 rounds alike.
SANITIZER_FLAGS := -fsanitize=address,undefined -fno-sanitize-recover=all -O1 -fexpensive-optimizations -g1
sanitize: install
	rm -rf $(SANITIZED) && mkdir -p $(SANITIZED)
	cp -r sfmts tests setup.py pyproject.toml README.md $(SANITIZED) && rm -f $(SANITIZED)/sfmts/kernels/*.so
	cd $(SANITIZED) && SFMTS_COMPILE_ARGS="$(SANITIZER_FLAGS)" LDFLAGS="-fsanitize=address,undefined" $(CURDIR)/$(BIN)/python setup.py --quiet build_ext --inplace
	cd $(SANITIZED) && LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
		ASAN_OPTIONS=detect_leaks=0 $(THREADS) $(CURDIR)/$(BIN)/python -m pytest \
		tests/test_kernels.py tests/test_native.py tests/test_projection.py tests/test_resonator_kernel.py \
		tests/test_bank_kernel.py tests/test_border.py \
		-m "not slow" -k "native and not memory and not installation" \
		--numprocesses 2 -p no:cacheprovider

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/numpydoc lint --config . $$(git ls-files 'sfmts/*.py' | grep -v '/_[a-z]')

types: install
	$(BIN)/mypy

floors: install
	$(BIN)/lint-imports

check: test lint types floors
