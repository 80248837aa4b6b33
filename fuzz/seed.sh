#!/usr/bin/env bash
# Fills fuzz/corpus/TARGET with the small files that the project has: the fixtures of the tests, the example, and
# what the tests' builders make.
set -euo pipefail
cd "$(dirname "$0")/.."

seeds=$(mktemp -d)
trap 'rm -rf "$seeds"' EXIT
ANATOMY_CORPUS="$seeds" cargo test -q -p anatomy --test property write_corpus -- --ignored >/dev/null
for folder in examples crates/anatomy/tests/data; do
    [ -d "$folder" ] || continue
    find "$folder" -type f -size -257k | while read -r file; do
        cp "$file" "$seeds/$(sha256sum "$file" | cut -c1-16)"
    done
done
# Tokenizers are kept compressed.
find crates/anatomy/tests/data/tokenizers -name '*.gz' ! -name '*expected*' | while read -r file; do
    gunzip -c "$file" > "$seeds/$(sha256sum "$file" | cut -c1-16)"
done
for target in $(sed -n 's/^path = "fuzz_targets\/\(.*\)\.rs"$/\1/p' fuzz/Cargo.toml); do
    mkdir -p "fuzz/corpus/$target"
    cp "$seeds"/* "fuzz/corpus/$target/"
    echo "$target: $(find "$seeds" -type f | wc -l) seeds"
done
