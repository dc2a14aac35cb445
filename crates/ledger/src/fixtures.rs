//! Files of every format ever written, kept in `tests/fixtures/` and read forever.
//!
//! `UPDATE_FIXTURES=1 cargo test` writes them anew: only for a format no release has written yet.

use std::path::PathBuf;

/// Where a fixture is. One that was released is read from here, and never written anew.
pub fn path_of(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "..", "tests", "fixtures", name].iter().collect()
}

/// Whether this run writes the fixtures anew.
pub fn updating() -> bool {
    std::env::var_os("UPDATE_FIXTURES").is_some_and(|value| value == "1")
}

/// The bytes of a fixture; those of `make` when the fixtures are written anew.
pub fn read_or_update<T: AsRef<[u8]>>(name: &str, make: impl FnOnce() -> T) -> Vec<u8> {
    let path = path_of(name);
    if updating() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, make()).unwrap();
    }
    std::fs::read(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; UPDATE_FIXTURES=1 writes it", path.display()))
}
