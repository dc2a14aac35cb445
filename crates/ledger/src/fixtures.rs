//! Files of every format ever written, kept in `tests/fixtures/` and read forever.
//!
//! `UPDATE_FIXTURES=1 cargo test` rewrites them: only for a format no release has written yet.

use std::path::PathBuf;

/// Path of a fixture. A released fixture is only read, never rewritten.
pub fn path_of(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "..", "tests", "fixtures", name].iter().collect()
}

/// Whether this run rewrites the fixtures.
pub fn updating() -> bool {
    std::env::var_os("UPDATE_FIXTURES").is_some_and(|value| value == "1")
}

/// Returns the bytes of a fixture; first rewrites it with `make` if this run updates fixtures.
pub fn read_or_update<T: AsRef<[u8]>>(name: &str, make: impl FnOnce() -> T) -> Vec<u8> {
    let path = path_of(name);
    if updating() {
        let folder = path.parent().expect("a fixture is in a folder");
        std::fs::create_dir_all(folder).expect("the folder of fixtures can be made");
        std::fs::write(&path, make()).expect("a fixture can be written");
    }
    std::fs::read(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; UPDATE_FIXTURES=1 writes it", path.display()))
}
