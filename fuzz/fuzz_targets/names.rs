#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidemark::untrusted::read("names", bytes));
