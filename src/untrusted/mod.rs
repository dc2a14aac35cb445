//! Everything that reads bytes from outside, each behind one function: they may be damaged, or meant to do harm.
//!
//! The test next to this file gives each what is damaged at random; cargo-fuzz (`fuzz/`) looks for more.
//! None may panic, hang, or take memory out of proportion. This module is in no release.

mod stored;
mod typed;

/// A reader of bytes from outside.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    pub name: &'static str,
    pub read: fn(&[u8]),
}

/// All of them. Each has a folder of this name in `fuzz/corpus`.
pub const TARGETS: &[Target] = &[
    target("protocol", tidemark_sql::wire::read_untrusted),
    target("sql", typed::sql),
    target("copy", typed::copy),
    target("text_values", typed::text_values),
    target("binary_values", typed::binary_values),
    target("names", typed::names),
    target("snapshot", stored::snapshot),
    target("manifest", stored::manifest),
    target("lease", stored::lease),
    target("version", stored::version),
    target("metadata", stored::metadata),
    target("etcd_journal", tidemark_ledger::meta_store::read_untrusted_journal),
    target("inline_rows", stored::inline_rows),
];

const fn target(name: &'static str, read: fn(&[u8])) -> Target {
    Target { name, read }
}

/// Gives `bytes` to the reader of this name.
///
/// # Panics
/// Where there is none.
pub fn read(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.expect("there is such a target").read)(bytes);
}

/// The first byte chooses; the rest is what is read.
fn chosen<'a, T>(all: &'a [T], bytes: &'a [u8]) -> Option<(&'a T, &'a [u8])> {
    let (choice, rest) = bytes.split_first()?;
    Some((&all[usize::from(*choice) % all.len()], rest))
}

#[cfg(test)]
mod tests;
