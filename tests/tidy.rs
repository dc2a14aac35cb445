//! The source keeps its shape: layers, opening sentences, and what only one module may do.

#![expect(clippy::unwrap_used, reason = "a test panics")]

use std::fs;
use std::path::{Path, PathBuf};

/// The layers, lowest first. A module may name only modules of its own layer or of lower ones.
const LAYERS: &[&[&str]] = &[
    &["ambient", "epoch", "id", "metrics", "crash_point"],
    &["catalog"],
    &["storage_url"],
    &["params", "layout", "storage"],
    &["hummock"],
    &["meta::keys", "meta::store", "meta::state", "meta::command", "meta::error"],
    &["backup"],
    &["meta"],
    &["rpc"],
    &["cli", "config"],
    &["frontend", "compactor"],
    &["server", "untrusted"],
    &["ctl"],
    &["demo"],
    &["sim"],
];

/// A file this long wants to be two.
const LINES_MAX: usize = 600;

struct Source {
    path: PathBuf,
    /// As in `crate::…`: `meta::store::sqlite`.
    module: String,
    text: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = vec![];
    collect(&root, &root, &mut found);
    assert!(found.len() > 100, "the sources were not found");
    found
}

fn collect(root: &Path, dir: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let inside = path.strip_prefix(root).unwrap().with_extension("");
            let parts = inside.iter().map(|part| part.to_str().unwrap());
            let module = parts.filter(|part| *part != "mod").collect::<Vec<_>>().join("::");
            let text = fs::read_to_string(&path).unwrap();
            found.push(Source { path, module, text });
        }
    }
}

/// Whether `module` is `prefix` or inside it.
fn within(module: &str, prefix: &str) -> bool {
    module.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// The layer of a module: that of the longest name in the table that holds it.
fn layer(module: &str) -> Option<usize> {
    let names = LAYERS.iter().enumerate().flat_map(|(n, names)| names.iter().map(move |m| (m, n)));
    names
        .filter(|(name, _)| within(module, name))
        .max_by_key(|(name, _)| name.len())
        .map(|(_, n)| n)
}

/// The part of a file that is not its unit tests: they may look anywhere.
fn outside_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text)
}

fn is_test_module(module: &str) -> bool {
    let last = module.rsplit("::").next().unwrap_or(module);
    ["tests", "conformance", "sample", "fixtures"].contains(&last)
}

/// The modules a file names as `crate::…`, each by its first two parts.
fn named_modules(text: &str) -> Vec<String> {
    text.split("crate::")
        .skip(1)
        .map(|rest| {
            let path: String = rest
                .chars()
                .take_while(|c| c.is_alphanumeric() || matches!(c, '_' | ':'))
                .collect();
            path.split("::").take(2).collect::<Vec<_>>().join("::")
        })
        .collect()
}

#[test]
fn no_module_names_one_of_a_higher_layer() {
    let mut wrong = vec![];
    for source in sources().iter().filter(|s| !is_test_module(&s.module)) {
        let Some(own) = layer(&source.module) else { continue };
        for named in named_modules(outside_tests(&source.text)) {
            if layer(&named).is_some_and(|other| other > own) {
                wrong.push(format!("{} names crate::{named}", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_module_is_in_the_table_of_layers() {
    let known = ["main", "lib", "bin::risectl", "fixtures"];
    for source in sources() {
        let listed = layer(&source.module).is_some() || known.contains(&source.module.as_str());
        assert!(listed, "{} has no layer", source.module);
    }
}

#[test]
fn every_file_opens_with_a_sentence() {
    for source in sources() {
        assert!(source.text.starts_with("//! "), "{}", source.path.display());
    }
}

#[test]
fn no_file_has_grown_past_a_sitting() {
    for source in sources() {
        let lines = source.text.lines().count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines", source.path.display());
    }
}

#[test]
fn nothing_is_left_undone_and_no_machine_is_named() {
    for source in sources() {
        for word in ["todo!(", "unimplemented!(", "/home/", "/root/"] {
            assert!(!source.text.contains(word), "{} holds {word}", source.path.display());
        }
    }
}

#[test]
fn what_one_module_does_no_other_does() {
    let only = [
        ("SystemTime::now", &["epoch"][..]),
        ("manifest.json\"", &["layout"]),
        (".snapshot\"", &["layout"]),
        (".data\"", &["layout"]),
        ("lease.json\"", &["layout"]),
        // What is never overwritten is so only to undo damage.
        (".copy_over(", &["meta::repair", "backup::copy"]),
        ("tonic::include_proto", &["rpc"]),
        ("proto::", &["rpc"]),
    ];
    for source in sources().iter().filter(|s| !is_test_module(&s.module)) {
        for (what, owners) in only {
            let code = outside_tests(&source.text).lines();
            let mut code = code.filter(|line| !line.trim_start().starts_with("//"));
            let allowed = owners.iter().any(|owner| within(&source.module, owner));
            assert!(
                allowed || !code.any(|line| line.contains(what)),
                "{} holds {what}",
                source.path.display()
            );
        }
    }
}

#[test]
fn nothing_deletes_a_data_file_but_vacuum() {
    // Beside it, the only objects that go are snapshots, probes and failed leftovers.
    let may = ["storage", "backup", "meta::store", "hummock::vacuum"];
    for source in sources().iter().filter(|s| !is_test_module(&s.module)) {
        let deletes = outside_tests(&source.text).contains("storage.delete(");
        let allowed = may.iter().any(|owner| within(&source.module, owner));
        assert!(allowed || !deletes, "{} deletes objects", source.path.display());
    }
}
