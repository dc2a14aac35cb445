//! The source files, and the modules that each one names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The crates below the program. Each is a module here: what is `tidemark_ledger::epoch` in the code of another
/// crate and `crate::epoch` in its own is `ledger::epoch`.
const CRATES: [&str; 4] = ["ledger", "engine", "pg", "sql"];

pub struct Source {
    pub path: PathBuf,
    /// Path as in `crate::…`: `ledger::meta_store::sqlite`; empty for `lib.rs`.
    pub module: String,
    pub text: String,
}

pub fn sources() -> Vec<Source> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = vec![];
    for name in CRATES {
        let root = top.join("crates").join(name).join("src");
        collect(&root, &root, name, &mut found);
    }
    collect(&top.join("src"), &top.join("src"), "", &mut found);
    assert!(found.len() > 100, "the sources were not found");
    found
}

fn collect(root: &Path, dir: &Path, name: &str, found: &mut Vec<Source>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, name, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let inside = path.strip_prefix(root).unwrap().with_extension("");
            let parts = inside.iter().map(|part| part.to_str().unwrap());
            let parts = std::iter::once(name).chain(parts);
            let named = parts.filter(|part| !["", "lib", "mod"].contains(part));
            let module = named.collect::<Vec<_>>().join("::");
            let text = fs::read_to_string(&path).unwrap();
            found.push(Source { path, module, text });
        }
    }
}

/// The file without its unit tests, which may name any module.
pub fn outside_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text)
}

pub fn is_test_module(module: &str) -> bool {
    let is_test = |part| {
        ["tests", "functions_tests", "conformance", "sample", "fixtures", "sim"].contains(&part)
    };
    module.split("::").any(is_test)
}

/// Whether `module` is `prefix` or inside it.
pub fn within(module: &str, prefix: &str) -> bool {
    module.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Returns which module names which, without tests. A name re-exported with `pub use` counts for the module
/// that defines it.
pub fn names(sources: &[Source]) -> BTreeMap<&str, BTreeSet<String>> {
    let modules: BTreeSet<&str> = sources.iter().map(|source| source.module.as_str()).collect();
    let code: Vec<_> = sources
        .iter()
        .filter(|source| !is_test_module(&source.module))
        .map(|source| (source.module.as_str(), paths(&bare(outside_tests(&source.text)))))
        .collect();
    let mut passed_on = BTreeMap::new();
    for (module, paths) in &code {
        for path in paths.iter().filter(|path| path.is_public) {
            if let Some((target, [item, ..])) = split(&modules, module, &path.text) {
                passed_on.insert((*module, item.clone()), target);
            }
        }
    }
    let mut found = BTreeMap::new();
    for (module, paths) in &code {
        let named: &mut BTreeSet<String> = found.entry(*module).or_default();
        for path in paths {
            let Some((mut target, rest)) = split(&modules, module, &path.text) else { continue };
            while let Some(next) = rest.first().and_then(|i| passed_on.get(&(target, i.clone()))) {
                if *next == target {
                    break;
                }
                target = *next;
            }
            if target != *module {
                named.insert(target.to_owned());
            }
        }
    }
    found
}

/// The text without comments.
fn bare(text: &str) -> String {
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or(""));
    lines.collect::<Vec<_>>().join("\n")
}

struct Named {
    text: Vec<String>,
    is_public: bool,
}

/// All paths in a text: those of `use`, and those in code that contain `::`.
fn paths(text: &str) -> Vec<Named> {
    let mut found = vec![];
    let mut code = String::new();
    for statement in text.split_inclusive(';') {
        let at = statement.rfind("use ").filter(|at| is_use(statement, *at));
        let Some(at) = at else {
            code.push_str(statement);
            continue;
        };
        code.push_str(&statement[..at]);
        let line = statement[..at].rsplit('\n').next().unwrap_or("");
        let is_public = line.trim_start().starts_with("pub");
        let tree = statement[at + 4..].trim_end_matches(';');
        expand(tree, &[], &mut |text| found.push(Named { text, is_public }));
    }
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    for word in code.split(|c| !is_path(c)).filter(|word| word.contains("::")) {
        let text: Vec<_> = word.split("::").map(str::to_owned).collect();
        if text.first().is_some_and(|first| !first.is_empty()) {
            found.push(Named { text, is_public: false });
        }
    }
    found
}

/// Whether a `use` statement begins at `at`.
fn is_use(statement: &str, at: usize) -> bool {
    let line = statement[..at].rsplit('\n').next().unwrap_or("").trim();
    line.is_empty() || line == "pub" || line.starts_with("pub(")
}

/// Expands the tree of a `use` to its paths.
fn expand(tree: &str, before: &[String], found: &mut impl FnMut(Vec<String>)) {
    let parts = |text: &str| -> Vec<String> {
        let text = text.split(" as ").next().unwrap_or("").trim();
        text.split("::").map(str::trim).filter(|p| !p.is_empty()).map(str::to_owned).collect()
    };
    let Some((head, inside)) = tree.split_once('{') else {
        let own = parts(tree);
        if !own.is_empty() {
            found([before, &own].concat());
        }
        return;
    };
    let before = [before, &parts(head)].concat();
    let inside = inside.rsplit_once('}').map_or(inside, |(inside, _)| inside);
    let (mut depth, mut start) = (0_usize, 0);
    for (at, letter) in inside.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                expand(&inside[start..at], &before, found);
                start = at + 1;
            }
            _ => {}
        }
    }
    expand(&inside[start..], &before, found);
}

/// Splits a path into the module it leads to and the rest; `None` if it leads out of the crate.
fn crate_of(name: &str) -> Option<&'static str> {
    let own = name.strip_prefix("tidemark_")?;
    CRATES.into_iter().find(|known| *known == own)
}

fn split<'s, 'p>(
    modules: &BTreeSet<&'s str>,
    module: &str,
    path: &'p [String],
) -> Option<(&'s str, &'p [String])> {
    let mut base: Vec<&str> = module.split("::").filter(|part| !part.is_empty()).collect();
    let mut rest = path;
    match rest.first()?.as_str() {
        "crate" => {
            let own = base.first().filter(|first| CRATES.contains(first)).copied();
            base = own.into_iter().collect();
            rest = &rest[1..];
        }
        other if crate_of(other).is_some() => {
            base = crate_of(other).into_iter().collect();
            rest = &rest[1..];
        }
        "self" => rest = &rest[1..],
        "super" => {
            while rest.first().is_some_and(|part| part == "super") {
                base.pop();
                rest = &rest[1..];
            }
        }
        child => {
            let child = [base.as_slice(), &[child]].concat().join("::");
            modules.get(child.as_str())?;
        }
    }
    while let Some((next, after)) = rest.split_first() {
        base.push(next);
        if !modules.contains(base.join("::").as_str()) {
            base.pop();
            break;
        }
        rest = after;
    }
    Some((modules.get(base.join("::").as_str())?, rest))
}
