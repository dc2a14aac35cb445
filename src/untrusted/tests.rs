//! Every reader of bytes from outside, on its corpus damaged at random.
//!
//! `TIDEMARK_MUTATIONS` is how many inputs each gets, `TIDEMARK_MUTATION_SEED` where the choices begin.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::{TARGETS, Target};

const MUTATIONS: u64 = 2_000;
/// In a debug build on a busy machine; what hangs takes for ever.
const INPUT_TIME_MAX: Duration = Duration::from_secs(20);
const INPUT_BYTES_MAX: usize = 16 << 10;

/// Pieces that mean something to one reader or another.
const WORDS: &[&[u8]] = &[
    b"SELECT ",
    b"(",
    b")",
    b"'",
    b"\"",
    b"--",
    b"/*",
    b"$$",
    b" FROM ",
    b"::",
    b"[",
    b"{",
    b"}",
    b",",
    b"\\",
    b"\n",
    b"\0",
    b"NaN",
    b"infinity",
    b"-",
    b"1e9999",
    b"9223372036854775808",
    b".",
    b" days ",
    b"NULL",
    b"e'\\x",
    b"CASE ",
    b" AND ",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\x80\0\0\0",
    b"\0\0\0\0",
    b"\xf0\x9f\x98\x80",
    b"%2e%2e/",
    b"://",
    b"@",
    b"\\.",
    b"null",
    b"1",
    b"0",
];

struct Choices(u64);

impl Choices {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).unwrap()
    }

    fn range(&mut self, bytes: &[u8]) -> std::ops::Range<usize> {
        let (a, b) = (self.below(bytes.len() + 1), self.below(bytes.len() + 1));
        a.min(b)..a.max(b)
    }
}

fn mutate(choices: &mut Choices, bytes: &mut Vec<u8>, corpus: &[Vec<u8>]) {
    let range = choices.range(bytes);
    let at = range.start.min(bytes.len().saturating_sub(1));
    let word = WORDS[choices.below(WORDS.len())];
    match choices.below(8) {
        0 if !bytes.is_empty() => bytes[at] ^= 1 << choices.below(8),
        1 if !bytes.is_empty() => bytes[at] = choices.next().to_be_bytes()[0],
        2 => bytes.truncate(range.start),
        3 => drop(bytes.drain(range)),
        4 => {
            let piece = bytes[range.clone()].to_vec();
            bytes.splice(range.start..range.start, piece);
        }
        5 => {
            let other = &corpus[choices.below(corpus.len())];
            let piece = other[choices.range(other)].to_vec();
            bytes.splice(range, piece);
        }
        6 => drop(bytes.splice(range.start..range.start, word.iter().copied())),
        _ => {
            let repeated = word.repeat(choices.below(300));
            bytes.splice(range.start..range.start, repeated);
        }
    }
    bytes.truncate(INPUT_BYTES_MAX);
}

/// The files of the corpus, and the fixtures that its reader reads.
fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<PathBuf> = std::fs::read_dir(root.join("fuzz/corpus").join(target.name))
        .unwrap_or_else(|error| panic!("the corpus of {}: {error}", target.name))
        .map(|entry| entry.unwrap().path())
        .collect();
    let fixtures = std::fs::read_dir(root.join("tests/fixtures")).unwrap();
    let fixtures = fixtures.map(|entry| entry.unwrap().path()).filter(|path| {
        let name = path.file_name().unwrap().to_string_lossy().replace('-', "_");
        name.starts_with(&format!("{}_v", target.name))
    });
    files.extend(fixtures);
    files.sort();
    assert!(!files.is_empty(), "the corpus of {} is empty", target.name);
    files.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("it is a number"))
}

/// Reads `bytes`, and says which they were where that fails.
fn check(target: &Target, seed: u64, bytes: &[u8]) {
    let begun = Instant::now();
    let read = catch_unwind(AssertUnwindSafe(|| (target.read)(bytes)));
    let shown = || format!("{}, seed {seed}: b\"{}\"", target.name, bytes.escape_ascii());
    assert!(read.is_ok(), "{}", shown());
    assert!(begun.elapsed() < INPUT_TIME_MAX, "{:?}: {}", begun.elapsed(), shown());
}

fn mutations(target: &Target) {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos();
    let seed = number("TIDEMARK_MUTATION_SEED", now.into());
    let mut choices = Choices(seed);
    let corpus = corpus(target);
    corpus.iter().for_each(|input| check(target, seed, input));
    for _ in 0..number("TIDEMARK_MUTATIONS", MUTATIONS) {
        let mut input = corpus[choices.below(corpus.len())].clone();
        for _ in 0..=choices.below(4) {
            mutate(&mut choices, &mut input, &corpus);
        }
        check(target, seed, &input);
    }
}

#[test]
fn damaged_bytes_from_outside_neither_panic_nor_hang() {
    let threads = TARGETS.iter().map(|target| {
        let work = || mutations(target);
        std::thread::Builder::new()
            .stack_size(tidemark_pg::query_runtime::STACK_BYTES)
            .spawn(work)
            .unwrap()
    });
    let failed = threads.collect::<Vec<_>>().into_iter().filter_map(|thread| thread.join().err());
    assert_eq!(failed.count(), 0, "see above");
}
