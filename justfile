# Every recipe is one plain command: CI and you may as well type it.

# Formatting, lints, documents
check:
    cargo fmt --check
    cargo clippy --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps

# Every test
test:
    cargo test

# The SQL tests alone
slt:
    cargo test --test sqllogictest

# Backup, time travel and restore, told on TPC-H data
demo *args:
    cargo run -- demo {{ args }}

# TPC-H now, in the past, and in plain DataFusion
bench *args:
    scripts/bench {{ args }}
