# `just` comes with .venv: make that with `python3 -m deploy.bootstrap`, then `.venv/bin/just --list`.

python := ".venv/bin/python"

# Make .venv, get the default model, and check what is committed before each commit.
setup:
    python3 -m deploy.bootstrap
    {{python}} -m models.base_model
    .venv/bin/pre-commit install

# The unit tests: under a minute.
test-fast *arguments:
    {{python}} -m pytest tests/unit -n logical --dist worksteal {{arguments}}

# Every test; or with arguments, what pytest makes of them: just test tests/contract -k fair
test *arguments:
    python3 test_slm_api.py {{ if arguments == "" { "" } else { "-- " + arguments } }}

# Format, types, layers of imports, C, JavaScript, Lua, and known vulnerabilities of what is installed.
check:
    .venv/bin/pre-commit run --all-files
    {{python}} -m deploy.audit

# Mend what can be mended by itself.
fix:
    .venv/bin/ruff check --fix .
    .venv/bin/ruff format .
    git ls-files '*.c' '*.h' | xargs .venv/bin/clang-format -i
    git ls-files '*.js' | xargs npx --yes @biomejs/biome@2.6.8 lint --write

# Write requirements/hashes/, from which the images install, after a change of requirements/. Needs uv.
lock:
    {{python}} -m deploy.lock

# Milliseconds a step of the model runners; docs/benchmarks.md has the others.
bench *arguments:
    {{python}} -m benchmarks.engine {{arguments}}

# The share of lines and branches of common, api and worker that the tests run, also in the processes that they start. Each
# layer's data stay in data/coverage/, so that layers can be run one by one: just coverage unit, then just coverage process.
coverage *layers="unit contract golden fuzz native process clients integration faults":
    mkdir -p data/coverage
    for layer in {{layers}}; do \
        COVERAGE_FILE="$PWD/data/coverage/$layer" {{python}} -m pytest tests/$layer --cov --cov-report= -n logical --dist worksteal \
            || echo "Tests of $layer failed." >&2; \
    done
    {{python}} -m coverage combine --keep data/coverage/*
    {{python}} -m coverage report

# The documents as a site, in site/. Broken links are errors.
site *arguments:
    {{python}} -m mkdocs build {{arguments}}

# vLLM's and llama.cpp's own tests, against this server with its default model; half an hour.
judges *arguments:
    {{python}} -m tests.foreign.judges {{arguments}}

# The browser tests in Firefox, and the page's main flows in WebKit. On Debian: apt install firefox-esr webkit2gtk-driver xvfb
browsers *arguments:
    TEST_BROWSER=firefox {{python}} -m pytest tests/browser --ignore tests/browser/test_build.py {{arguments}}
    TEST_BROWSER=webkit {{python}} -m pytest tests/browser/test_webkit.py {{arguments}}

# Lighthouse's scores of the page's views, on a quiet machine.
lighthouse:
    {{python}} -m tests.browser.lighthouse
