//! Checks the structure of the source: layers, opening sentences, and operations reserved to single modules.

#![expect(clippy::unwrap_used, reason = "a test panics")]

mod source;

use std::collections::{BTreeMap, BTreeSet};

use source::{is_test_module, names, outside_tests, sources, within};

/// The layers, lowest first. A module may only name modules of its layer or of lower ones.
const LAYERS: &[&[&str]] = &[
    &["ledger::ambient", "ledger::epoch", "ledger::id", "ledger::metrics", "ledger::crash_point"],
    &["ledger::catalog"],
    &["ledger::storage_url"],
    &["ledger::params", "ledger::layout", "ledger::storage"],
    &["ledger::keys", "ledger::meta_store", "ledger::state", "ledger::meta_error", "ledger"],
    &["ledger::backup"],
    &["pg"],
    &["engine"],
    &["engine::meta"],
    &["engine::rpc"],
    &["engine::worker"],
    &["engine::compactor"],
    &["sql"],
    &["cli", "config"],
    &["server", "untrusted"],
    &["ctl"],
    &["demo"],
    &["sim"],
];

/// Modules on the same level, of which neither may name the other.
const APART: [&str; 2] = ["engine", "pg"];

/// Longer files should be split.
const LINES_MAX: usize = 600;

/// The layer of a module: that of the longest matching prefix in the table.
fn layer(module: &str) -> Option<usize> {
    let names = LAYERS.iter().enumerate().flat_map(|(n, names)| names.iter().map(move |m| (m, n)));
    names
        .filter(|(name, _)| within(module, name))
        .max_by_key(|(name, _)| name.len())
        .map(|(_, n)| n)
}

#[test]
fn no_module_names_one_of_a_higher_layer() {
    let sources = sources();
    let mut wrong = vec![];
    for (module, named) in names(&sources) {
        let Some(own) = layer(module) else { continue };
        for named in named {
            let is_higher = layer(&named).is_some_and(|other| other > own);
            let is_apart = within(module, APART[0]) && within(&named, APART[1]);
            if is_higher || is_apart {
                wrong.push(format!("{module} names {named}"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Whether a name depends on itself.
fn comes_back(neighbours: &BTreeMap<String, BTreeSet<String>>, name: &str) -> bool {
    let (mut seen, mut open) = (BTreeSet::new(), vec![name]);
    while let Some(next) = open.pop() {
        let named = neighbours.get(next).into_iter().flatten();
        open.extend(named.map(String::as_str).filter(|named| seen.insert(*named)));
    }
    seen.contains(name)
}

/// Neighbouring files or folders must not depend on each other in a cycle; shared code belongs in a third
/// one.
#[test]
fn neighbours_form_no_circle() {
    let sources = sources();
    let mut named_by: BTreeMap<String, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for (module, named) in names(&sources) {
        for named in named {
            let (own, other): (Vec<_>, Vec<_>) =
                (module.split("::").collect(), named.split("::").collect());
            let common = own.iter().zip(&other).take_while(|(a, b)| a == b).count();
            if let (Some(own), Some(other)) = (own.get(common), other.get(common)) {
                let folder = module.split("::").take(common).collect::<Vec<_>>().join("::");
                let folder = named_by.entry(folder).or_default();
                folder.entry((*own).to_owned()).or_default().insert((*other).to_owned());
            }
        }
    }
    let mut wrong = vec![];
    for (folder, neighbours) in &named_by {
        for name in neighbours.keys().filter(|name| comes_back(neighbours, name)) {
            wrong.push(format!("{folder}: {name} comes back to itself"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_module_is_in_the_table_of_layers() {
    let known = ["main", "", "bin::risectl", "fixtures"];
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
        ("SystemTime::now", &["ledger::epoch"][..]),
        ("manifest.json\"", &["ledger::layout"]),
        (".snapshot\"", &["ledger::layout"]),
        (".data\"", &["ledger::layout"]),
        ("lease.json\"", &["ledger::layout"]),
        // Existing objects are overwritten only to repair damage.
        (".copy_over(", &["engine::meta::repair", "ledger::backup::copy"]),
        ("tonic::include_proto", &["engine::rpc"]),
        ("proto::", &["engine::rpc"]),
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
    // Otherwise only snapshots, probes and leftovers of failures are deleted.
    let may = ["ledger::storage", "ledger::backup", "ledger::meta_store", "ledger::vacuum"];
    for source in sources().iter().filter(|s| !is_test_module(&s.module)) {
        let deletes = outside_tests(&source.text).contains("storage.delete(");
        let allowed = may.iter().any(|owner| within(&source.module, owner));
        assert!(allowed || !deletes, "{} deletes objects", source.path.display());
    }
}
