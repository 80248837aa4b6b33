#!/usr/bin/env bash
# Fills fuzz/corpus/TARGET with the small files that the project has: the fixtures of the tests, the example, and
# what the tests' builders make.
set -euo pipefail
cd "$(dirname "$0")/.."

targets=$(sed -n 's/^name = "\(.*\)"$/\1/p' fuzz/Cargo.toml | grep -v anatomy-fuzz)
for target in $targets; do
    mkdir -p "fuzz/corpus/$target"
    ANATOMY_CORPUS="$PWD/fuzz/corpus/$target" cargo test -q -p anatomy --test property write_corpus -- --ignored >/dev/null
    find examples crates/anatomy/tests/data -type f -size -257k 2>/dev/null | while read -r file; do
        cp "$file" "fuzz/corpus/$target/$(sha256sum "$file" | cut -c1-16)"
    done
    echo "$target: $(find "fuzz/corpus/$target" -type f | wc -l) seeds"
done
