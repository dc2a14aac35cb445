//! Damages every part of a snapshot and of a manifest: cut, changed, swapped, or taken from another. No
//! damage is accepted, and the error names the file and, where the damage is in a section, the section.

use serde_json::Value;

use super::*;
use crate::backup::verify::read_whole;
use crate::backup::{Manifest, OpenLocation, create_snapshot};
use crate::layout;

/// A backup directory with two snapshots of one cluster.
struct World {
    location: OpenLocation,
    entry: ManifestEntry,
    whole: Bytes,
    other: Bytes,
}

/// The parts of a snapshot.
#[derive(Clone)]
struct Parts {
    header: Vec<u8>,
    sections: Vec<(String, Vec<u8>)>,
    footer: Vec<u8>,
}

impl World {
    async fn new() -> Self {
        let location = sample::backup_location().await;
        let state = sample::state();
        let new = sample::new_snapshot(1, Some("nightly"));
        let entry = create_snapshot(&location, &state, &new).await.unwrap();
        let change = state.change_at(state.version.max_committed_epoch.next(0));
        let mut later = state.apply(&change);
        later.params = std::sync::Arc::new(crate::params::Params::default());
        let new = sample::new_snapshot(2, None);
        create_snapshot(&location, &later, &new).await.unwrap();
        let [whole, other] = [1, 2].map(|id| layout::snapshot("backup", SnapshotId(id)));
        let whole = location.storage.get(&whole).await.unwrap();
        let other = location.storage.get(&other).await.unwrap();
        Self { location, entry, whole, other }
    }

    /// The error of a restore of snapshot 1 when its file has these bytes.
    async fn refused(&self, bytes: Vec<u8>, damage: &str) -> String {
        assert_ne!(bytes, self.whole, "{damage} is none");
        let path = layout::snapshot("backup", SnapshotId(1));
        self.location.storage.delete(&path).await.unwrap();
        self.location.storage.put_new(&path, bytes.into()).await.unwrap();
        let Err(error) = read_whole(&self.location, &self.entry).await else {
            panic!("{damage} was accepted");
        };
        let said = error.to_string();
        assert!(said.contains("/backup/1.snapshot is"), "{damage}: {said}");
        said
    }
}

impl Parts {
    fn of(bytes: &[u8]) -> Self {
        let tail = bytes.len() - TAIL_BYTES;
        let length = u32::from_le_bytes(bytes[tail..tail + 4].try_into().unwrap());
        let footer_start = tail - usize::try_from(length).unwrap();
        let footer: Footer = serde_json::from_slice(&bytes[footer_start..tail]).unwrap();
        let stored = |section: &Section| {
            let start = usize::try_from(section.offset).unwrap();
            let end = start + usize::try_from(section.stored_bytes).unwrap();
            (section.name.clone(), bytes[start..end].to_vec())
        };
        Self {
            header: bytes[..HEADER_BYTES].to_vec(),
            sections: footer.sections.iter().map(stored).collect(),
            footer: bytes[footer_start..tail].to_vec(),
        }
    }

    /// The file, with a valid checksum of its header and footer.
    fn file(&self) -> Vec<u8> {
        let length = u32::try_from(self.footer.len()).unwrap().to_le_bytes();
        let guard = frame_sha256(&self.header, &self.footer);
        let sections: Vec<u8> = self.sections.iter().flat_map(|(_, s)| s.clone()).collect();
        [&self.header[..], &sections, &self.footer, &length, &guard, END_MAGIC].concat()
    }
}

/// Collects the JSON pointers of all values below the root of a document.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(fields) => fields.iter().map(|(name, v)| (name.clone(), v)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(n, v)| (n.to_string(), v)).collect(),
        _ => return,
    };
    for (name, child) in children {
        let pointer = format!("{at}/{name}");
        pointers(child, &pointer, found);
        found.push(pointer);
    }
}

fn removed(document: &Value, pointer: &str) -> Value {
    let mut document = document.clone();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    match document.pointer_mut(parent).unwrap() {
        Value::Object(fields) => drop(fields.remove(name)),
        Value::Array(items) => drop(items.remove(name.parse().unwrap())),
        _ => unreachable!("only these have children"),
    }
    document
}

fn changed(value: &Value) -> Value {
    match value {
        Value::Null => Value::from("something"),
        Value::Bool(b) => Value::from(!b),
        Value::Number(n) => Value::from(n.as_u64().unwrap() ^ 1),
        Value::String(text) => Value::from(format!("{text}0")),
        Value::Array(_) | Value::Object(_) => Value::Null,
    }
}

/// All variants of a document with one value removed, changed, replaced by its neighbour's, or taken from
/// `other`.
fn damaged(document: &Value, other: &Value) -> Vec<(String, Value)> {
    let mut all = vec![];
    pointers(document, "", &mut all);
    let with = |pointer: &str, value: Value| {
        let mut damaged = document.clone();
        *damaged.pointer_mut(pointer).unwrap() = value;
        damaged
    };
    let mut found = vec![];
    for (n, pointer) in all.iter().enumerate() {
        let here = document.pointer(pointer).unwrap();
        found.push((format!("{pointer} removed"), removed(document, pointer)));
        found.push((format!("{pointer} changed"), with(pointer, changed(here))));
        let neighbour = &all[(n + 1) % all.len()];
        let theirs = document.pointer(neighbour).unwrap().clone();
        found.push((format!("{pointer} as {neighbour}"), with(pointer, theirs)));
        if let Some(theirs) = other.pointer(pointer) {
            found.push((format!("{pointer} of another"), with(pointer, theirs.clone())));
        }
    }
    found.retain(|(_, damaged)| damaged != document);
    found
}

#[tokio::test]
async fn no_damaged_section_is_accepted() {
    let world = World::new().await;
    let (parts, other) = (Parts::of(&world.whole), Parts::of(&world.other));
    assert_eq!(parts.file(), world.whole, "it is taken apart and put together well");
    let mut count = 0;
    for n in 0..parts.sections.len() {
        let name = parts.sections[n].0.clone();
        let named = format!("section \"{name}\"");
        let stored = parts.sections[n].1.clone();
        let theirs = other.sections.iter().find(|(theirs, _)| *theirs == name);
        let theirs = theirs.map(|(_, bytes)| bytes.clone()).unwrap_or_default();
        for at in 0..stored.len() {
            let mut flipped = parts.clone();
            flipped.sections[n].1[at] ^= 1 << (at % 8);
            let said = world.refused(flipped.file(), &format!("{name} flipped at {at}")).await;
            assert!(said.contains(&named), "{name} flipped at {at}: {said}");
            count += 1;
        }
        for (what, bytes) in [
            ("zeroed", vec![0; stored.len()]),
            ("reversed", stored.iter().rev().copied().collect()),
            ("of another", theirs),
            ("cut", stored[1..].to_vec()),
            ("empty", vec![]),
        ] {
            if bytes == stored {
                continue;
            }
            let mut damaged = parts.clone();
            damaged.sections[n].1 = bytes;
            let same_length = damaged.sections[n].1.len() == stored.len();
            let said = world.refused(damaged.file(), &format!("{name} {what}")).await;
            assert!(said.contains(&named) || !same_length, "{name} {what}: {said}");
            count += 1;
        }
        let next = (n + 1) % parts.sections.len();
        let mut swapped = parts.clone();
        let theirs = swapped.sections[next].1.clone();
        swapped.sections[next].1 = std::mem::replace(&mut swapped.sections[n].1, theirs);
        world.refused(swapped.file(), &format!("{name} swapped with the next")).await;
        count += 1;
    }
    assert!(count > 500, "{count} damaged files");
}

#[tokio::test]
async fn no_damaged_frame_is_accepted() {
    let world = World::new().await;
    let (parts, other) = (Parts::of(&world.whole), Parts::of(&world.other));
    let mut count = 0;
    // Even with a valid checksum of the footer.
    let [document, theirs] =
        [&parts, &other].map(|parts| serde_json::from_slice::<Value>(&parts.footer).unwrap());
    for (what, footer) in damaged(&document, &theirs) {
        let footer = serde_json::to_vec(&footer).unwrap();
        let file = Parts { footer, ..parts.clone() }.file();
        world.refused(file, &format!("footer: {what}")).await;
        count += 1;
    }
    for at in 0..HEADER_BYTES {
        let mut flipped = parts.clone();
        flipped.header[at] ^= 1;
        world.refused(flipped.file(), &format!("header flipped at {at}")).await;
        count += 1;
    }
    let header = other.header.clone();
    world.refused(Parts { header, ..parts.clone() }.file(), "header of another").await;
    world.refused(world.other.to_vec(), "another snapshot").await;
    for length in 0..world.whole.len() {
        world.refused(world.whole[..length].to_vec(), &format!("cut to {length} bytes")).await;
        count += 1;
    }
    assert!(count > 500, "{count} damaged files");
}

#[tokio::test]
async fn no_damaged_manifest_is_accepted() {
    let world = World::new().await;
    let path = layout::manifest("backup");
    let whole = world.location.storage.get(&path).await.unwrap();
    let stranger = sample::backup_location().await;
    create_snapshot(&stranger, &sample::state(), &sample::new_snapshot(9, None)).await.unwrap();
    let theirs = stranger.storage.get(&path).await.unwrap();
    let refused = async |bytes: Vec<u8>, damage: &str| {
        let location = OpenLocation::in_memory("backup");
        location.storage.put_new(&path, bytes.into()).await.unwrap();
        let Err(error) = Manifest::read(&location).await else { panic!("{damage} was accepted") };
        let said = error.to_string();
        assert!(said.contains("/backup/manifest.json is damaged"), "{damage}: {said}");
    };
    let mut count = 0;
    for at in 0..whole.len() {
        let mut flipped = whole.to_vec();
        flipped[at] ^= 1 << (at % 7);
        refused(flipped, &format!("flipped at {at}")).await;
        refused(whole[..at].to_vec(), &format!("cut to {at} bytes")).await;
        count += 2;
    }
    let [document, other] = [&whole, &theirs].map(|m| serde_json::from_slice::<Value>(m).unwrap());
    for (what, document) in damaged(&document, &other) {
        // Encoded as a manifest is: the checksum last.
        let mut fields = document.as_object().unwrap().clone();
        let checksum = fields.remove("sha256");
        let mut bytes = serde_json::to_vec(&fields).unwrap();
        if let Some(checksum) = checksum {
            bytes.pop();
            bytes.extend(format!(",\"sha256\":{checksum}}}").into_bytes());
        }
        refused(bytes, &what).await;
        count += 1;
    }
    assert!(count > 1000, "{count} damaged files");
}
