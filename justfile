# Every recipe is one plain command that can also be typed by hand.

# Formatting, lints, documentation
check:
    cargo fmt --check
    cargo clippy --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps

# Every test
test:
    cargo test

# The SQL tests only
slt:
    cargo test --test sqllogictest

# Demonstrates backup, time travel and restore on TPC-H data
demo *args:
    cargo run -- demo {{ args }}

# The benchmarks; without arguments, TPC-H in the present, in the past, and in plain DataFusion
bench *args:
    scripts/bench {{ args }}
