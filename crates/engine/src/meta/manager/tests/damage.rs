//! Damage to what a start reads: the state is the true one or the start is refused, but never another state.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;
use crate::meta::faults::Random;
use tidemark_ledger::layout;
use tidemark_ledger::meta_store::SqliteStore;

/// Sizes of a SQLite page and of a frame of its journal.
const PAGE_BYTES: usize = 4096;
const FRAME_BYTES: usize = PAGE_BYTES + 24;
/// Number of damages in the long test, unless the environment names another.
const DAMAGES: u64 = 240;
const DAMAGES_VARIABLE: &str = "TIDEMARK_DAMAGES";

/// Every file below a directory.
type Image = BTreeMap<PathBuf, Vec<u8>>;

/// A cluster whose files are all in one directory.
struct Site {
    dir: TempDir,
    params: Params,
    clock: Arc<ManualClock>,
}

/// A server on such a cluster.
struct Opened {
    manager: Manager,
    store: Arc<SqliteStore>,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut params = Params::default();
        let url = format!("fs://{}", dir.path().join("state").display());
        params.set(params::STATE_STORE, &format!("hummock+{url}"));
        params.set(params::DATA_DIRECTORY, "hummock_001");
        params.set(params::BACKUP_STORAGE_URL, &url);
        params.set(params::BACKUP_STORAGE_DIRECTORY, "backup");
        Self { dir, params, clock: ManualClock::at_ms(NOW_MS) }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    async fn open(&self) -> Result<Opened, String> {
        self.open_accepting(None).await
    }

    /// Opens the store; accepts that it lacks commits if it ends at this epoch.
    async fn open_accepting(&self, accept_loss_after: Option<Epoch>) -> Result<Opened, String> {
        let endpoint = self.file("meta/meta.db").display().to_string();
        let store = SqliteStore::open_target(&endpoint).await;
        let store = Arc::new(store.map_err(|e| tidemark_ledger::meta_error::chain(&e))?);
        let shared = Arc::clone(&store) as Arc<dyn MetaStore>;
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let new = NewCluster { accept_loss_after, ..NewCluster::new(self.params.clone()) };
        let opened = open(shared, new, clock).await;
        let hinted = |e: OpenError| {
            let hint = e.hint().unwrap_or_default();
            format!("{} HINT {hint}", tidemark_ledger::meta_error::chain(&e))
        };
        let manager = opened.map_err(hinted)?;
        Ok(Opened { manager, store })
    }

    fn image(&self) -> Image {
        let mut image = Image::new();
        collect(self.dir.path(), &mut image);
        image
    }

    /// The current files, except that those of the meta store are as in `older`.
    fn with_store_of(&self, older: &Image) -> Image {
        let of_store = |path: &PathBuf| path.starts_with(self.file("meta"));
        let mut mixed = self.image();
        mixed.retain(|path, _| !of_store(path));
        mixed.extend(
            older.iter().filter(|(path, _)| of_store(path)).map(|(p, b)| (p.clone(), b.clone())),
        );
        mixed
    }

    /// Makes the directory hold these files and no others.
    fn put(&self, image: &Image) {
        for path in self.image().keys().filter(|path| !image.contains_key(*path)) {
            std::fs::remove_file(path).unwrap();
        }
        for (path, bytes) in image {
            std::fs::write(path, bytes).unwrap();
        }
    }
}

fn collect(directory: &Path, image: &mut Image) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, image);
        } else {
            image.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
}

impl Opened {
    /// Stops the server cleanly: records how far its metadata is durable.
    async fn close(self) {
        self.manager.promise().await;
        self.end().await;
    }

    /// Ends the server without that record.
    async fn end(self) {
        drop(self.manager);
        while Arc::strong_count(&self.store) > 1 {
            tokio::task::yield_now().await;
        }
    }

    async fn commit_some(&self, count: u64) {
        for n in 0..count {
            let (name, value) = (params::TIME_TRAVEL_RETENTION_MS, (700_000 + n).to_string());
            match n % 3 {
                0 => self.manager.set_param(name.to_owned(), value).await.map(|_| ()),
                1 => self.manager.reserve_ssts(3).await.map(|_| ()),
                _ => self.manager.flush().await.map(|_| ()),
            }
            .unwrap();
        }
    }
}

#[tokio::test]
async fn a_flipped_bit_in_the_journal_of_sqlite_is_noticed() {
    let site = Site::new();
    let server = site.open().await.unwrap();
    server.commit_some(40).await;
    let truth = server.manager.state();
    // As after a crash: the journal has commits that the database file lacks.
    let image = site.image();
    server.close().await;
    let journal = site.file("meta/meta.db-wal");
    let length = image[&journal].len();
    let (mut refused, mut unharmed, mut wrong) = (0, 0, vec![]);
    for n in 0..30 {
        let at = length * (2 * n + 1) / 60;
        let mut damaged = image.clone();
        damaged.get_mut(&journal).unwrap()[at] ^= 1 << (n % 8);
        site.put(&damaged);
        match site.open().await {
            Err(error) => {
                // If nothing is left in the store, the data directory is that of another cluster.
                let says = ["lacks acknowledged commits", "but the data directory belongs to"];
                assert!(says.iter().any(|says| error.contains(says)), "{error}");
                // The part that SQLite no longer reads is still there.
                assert!(site.image()[&journal] == damaged[&journal]);
                refused += 1;
            }
            Ok(server) => {
                if *server.manager.state() == *truth {
                    unharmed += 1;
                } else {
                    let found = server.manager.state().revision;
                    wrong.push(format!("byte {at}: revision {found} of {}", truth.revision));
                }
                server.end().await;
            }
        }
    }
    assert!(wrong.is_empty(), "{} of 30 silently wrong: {wrong:#?}", wrong.len());
    assert!(refused > 20, "{refused} refused, {unharmed} without harm");
}

#[tokio::test]
async fn a_crash_at_any_moment_is_no_reason_to_refuse() {
    let site = Site::new();
    let server = site.open().await.unwrap();
    let mut crashes = vec![];
    for _ in 0..12 {
        server.commit_some(1).await;
        crashes.push((site.image(), server.manager.state()));
    }
    server.end().await;
    let journal = site.file("meta/meta.db-wal");
    let head = site.file("meta/meta.db-head");
    for two in crashes.windows(2) {
        let ((earlier, _), (image, truth)) = (&two[0], &two[1]);
        // The next commit was not finished; the head was not written; the head was lost with the power.
        let mut torn = image.clone();
        torn.get_mut(&journal).unwrap().extend(vec![7; FRAME_BYTES / 2]);
        let mut late = image.clone();
        late.insert(head.clone(), earlier[&head].clone());
        let mut lost = image.clone();
        lost.insert(head.clone(), vec![0; 2 * PAGE_BYTES]);
        for crashed in [image.clone(), torn, late, lost] {
            site.put(&crashed);
            let server = site.open().await.unwrap();
            assert_eq!(*server.manager.state(), **truth);
            server.end().await;
        }
    }
}

#[tokio::test]
async fn an_older_copy_of_the_store_is_refused_until_the_loss_is_accepted() {
    let site = Site::new();
    let server = site.open().await.unwrap();
    server.commit_some(3).await;
    let ends = server.manager.state().end();
    server.close().await;
    let older = site.image();
    let server = site.open().await.unwrap();
    server.commit_some(5).await;
    let newest = server.manager.state().end();
    server.close().await;
    let newer = site.image();
    site.put(&site.with_store_of(&older));
    let error = site.open().await.err().unwrap();
    let says = format!("ends at epoch {} ", ends.epoch);
    assert!(error.contains(&says) && error.contains("/lease.json it was at epoch"), "{error}");
    assert!(error.contains(&newest.epoch.to_string()), "{error}");
    assert!(error.contains(&format!("revision {}", newest.revision)), "{error}");
    assert!(error.contains(&format!("--accept-loss-after-epoch {}", ends.epoch)), "{error}");
    // Only the epoch where the store ends is accepted.
    let error = site.open_accepting(Some(newest.epoch)).await.err().unwrap();
    assert!(error.contains("does not end at epoch"), "{error}");

    let server = site.open_accepting(Some(ends.epoch)).await.unwrap();
    let state = server.manager.state();
    let losses = state.accepted_losses();
    assert_eq!(losses.len(), 1);
    assert_eq!((losses[0].found, losses[0].promised), (ends, newest));
    let next = server.manager.flush().await.unwrap();
    assert!(next.epoch > newest.epoch && server.manager.state().next.sst >= state.next.sst);
    server.close().await;
    // The loss is recorded, and need not be accepted again.
    let server = site.open().await.unwrap();
    assert_eq!(server.manager.state().accepted_losses(), losses);
    server.close().await;
    // What was given up never comes back.
    site.put(&site.with_store_of(&newer));
    let error = site.open().await.err().unwrap();
    assert!(error.contains("was restored into another meta store"), "{error}");
    let error = site.open_accepting(Some(newest.epoch)).await.err().unwrap();
    assert!(error.contains("was restored into another meta store"), "{error}");
}

#[tokio::test]
async fn the_head_alone_knows_of_the_last_commit() {
    let site = Site::new();
    let server = site.open().await.unwrap();
    server.commit_some(3).await;
    server.end().await;
    let older = site.image();
    let server = site.open().await.unwrap();
    server.commit_some(1).await;
    server.end().await;
    let mut mixed = site.image();
    let database = site.file("meta/meta.db");
    mixed.insert(database.clone(), older[&database].clone());
    site.put(&mixed);
    let error = site.open().await.err().unwrap();
    assert!(error.contains("by its head file it was at epoch"), "{error}");
}

#[tokio::test]
async fn a_damaged_lease_may_be_deleted_where_no_other_server_is() {
    let site = Site::new();
    let server = site.open().await.unwrap();
    server.commit_some(10).await;
    let truth = server.manager.state();
    server.close().await;
    let lease = site.file(&format!("state/{}", layout::lease("hummock_001")));
    let mut bytes = std::fs::read(&lease).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&lease, bytes).unwrap();
    let error = site.open().await.err().unwrap();
    assert!(error.contains("lease.json is damaged") && error.contains("delete it"), "{error}");
    std::fs::remove_file(&lease).unwrap();
    assert!(site.serves(&truth).await.unwrap());
}

#[tokio::test]
async fn a_damaged_checkpoint_is_named_and_the_meta_store_is_not_blamed() {
    let site = Site::new();
    let server = site.open().await.unwrap();
    server.commit_some(3).await;
    server.close().await;
    let image = site.image();
    let is_checkpoint = |path: &&PathBuf| path.to_string_lossy().contains("/checkpoint/");
    let checkpoints: Vec<_> = image.keys().filter(is_checkpoint).collect();
    let [checkpoint] = checkpoints[..] else { panic!("{checkpoints:?}") };
    let mut flipped = image.clone();
    flipped.get_mut(checkpoint).unwrap()[10] ^= 1;
    let mut gone = image.clone();
    gone.remove(checkpoint);
    for damaged in [flipped, gone] {
        site.put(&damaged);
        let error = site.open().await.err().unwrap();
        assert!(error.starts_with("the checkpoint that the start needs is damaged or gone: "));
        let (_, hint) = error.split_once(" HINT ").unwrap();
        let name = checkpoint.file_name().unwrap().to_str().unwrap();
        assert!(hint.starts_with("The meta store is not damaged."), "{error}");
        assert!(hint.contains(name) && hint.contains("risectl meta restore-meta"), "{error}");
    }
    site.put(&image);
    site.open().await.unwrap().close().await;
}

/// Damages one file at random: a description and the new contents, or no contents if the file is
/// removed. `None` if nothing would change.
fn damaged(random: &mut Random, name: &str, bytes: &[u8]) -> Option<(String, Option<Vec<u8>>)> {
    let below = |random: &mut Random, bound: usize| {
        usize::try_from(random.below(u64::try_from(bound.max(1)).unwrap())).unwrap()
    };
    let mut new = bytes.to_vec();
    let at = below(random, bytes.len());
    let (first, stride) = match name.ends_with("-wal") {
        true => (32, FRAME_BYTES),
        false => (0, PAGE_BYTES),
    };
    let blocks = bytes.len().checked_sub(first)?.div_ceil(stride);
    let block = |n: usize| first + n * stride..(first + (n + 1) * stride).min(bytes.len());
    let (one, other) = (below(random, blocks), below(random, blocks));
    let what = match random.below(12) {
        0 => return Some(("gone".to_owned(), None)),
        1 | 2 => {
            new.truncate(at);
            format!("cut to {at}")
        }
        3 | 4 => {
            new.get_mut(block(one))?.fill(0);
            format!("block {one} zeroed")
        }
        5 if block(one).len() == block(other).len() => {
            let (a, b) = (bytes[block(one)].to_vec(), bytes[block(other)].to_vec());
            new[block(one)].copy_from_slice(&b);
            new[block(other)].copy_from_slice(&a);
            format!("blocks {one} and {other} swapped")
        }
        6 if block(one).len() == block(other).len() => {
            new[block(one)].copy_from_slice(&bytes[block(other)]);
            format!("block {one} as block {other}")
        }
        7 => {
            let end = (at + 16).min(bytes.len());
            new[at..end]
                .iter_mut()
                .for_each(|byte| *byte = u8::try_from(random.below(256)).unwrap());
            format!("16 bytes at {at}")
        }
        _ => {
            let bit = random.below(8);
            *new.get_mut(at)? ^= 1 << bit;
            format!("bit {bit} of byte {at} flipped")
        }
    };
    (new != bytes).then_some((what, Some(new)))
}

/// The outcomes of damages.
#[derive(Debug, Default)]
struct Tally {
    refused: u64,
    unharmed: u64,
    wrong: Vec<String>,
}

impl Site {
    /// Whether a server that starts here serves `truth`, continues from it, and finds its own state again.
    async fn serves(&self, truth: &State) -> Result<bool, String> {
        let server = self.open().await?;
        let same = *server.manager.state() == *truth;
        let written = server.manager.flush().await;
        let after = server.manager.state();
        server.end().await;
        written.map_err(|e| e.to_string())?;
        let server = self.open().await?;
        let again = *server.manager.state() == *after;
        server.end().await;
        Ok(same && again)
    }
}

/// A cluster with some history: as a crash leaves it, with deltas in both the file and the journal, and
/// after a clean stop.
async fn lived_in(site: &Site) -> (Vec<Image>, Arc<State>) {
    let server = site.open().await.unwrap();
    for n in 0..30 {
        create_schema(&server.manager, &format!("schema_{n}")).await;
    }
    server.commit_some(30).await;
    server.close().await;
    let server = site.open().await.unwrap();
    server.commit_some(30).await;
    let truth = server.manager.state();
    let crashed = site.image();
    server.close().await;
    (vec![crashed, site.image()], truth)
}

async fn create_schema(manager: &Manager, name: &str) {
    let (name, if_not_exists) = (name.to_owned(), false);
    let command = CatalogCommand::CreateSchema { name, if_not_exists };
    manager.change_catalog(command).await.unwrap();
}

/// `TIDEMARK_DAMAGES` sets the number of damages, `TIDEMARK_DAMAGE_SEED` the seed.
#[tokio::test]
async fn no_damage_to_what_a_start_reads_is_believed() {
    let number = |name: &str, default: u64| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let mut random = Random::new(number("TIDEMARK_DAMAGE_SEED", 1));
    let site = Site::new();
    let (images, truth) = lived_in(&site).await;
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    let mut done = 0;
    while done < number(DAMAGES_VARIABLE, DAMAGES) {
        let image = random.pick(&images).unwrap();
        let paths: Vec<PathBuf> = image.keys().cloned().collect();
        let path = random.pick(&paths).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let Some((what, bytes)) = damaged(&mut random, &name, &image[&path]) else { continue };
        let mut damaged = image;
        match bytes {
            Some(bytes) => damaged.insert(path.clone(), bytes),
            None => damaged.remove(&path),
        };
        site.put(&damaged);
        let kind = name.rsplit_once('.').map_or(name.as_str(), |(_, kind)| kind).to_owned();
        let tally = tallies.entry(kind).or_default();
        match site.serves(&truth).await {
            Ok(true) => tally.unharmed += 1,
            Ok(false) => tally.wrong.push(format!("{name}: {what}")),
            Err(error) => {
                assert!(!error.contains("panicked"), "{name}: {what}: {error}");
                tally.refused += 1;
            }
        }
        done += 1;
    }
    let shown: Vec<_> = tallies
        .iter()
        .map(|(kind, t)| {
            format!(
                "{kind}: {} refused, {} without harm, {} wrong",
                t.refused,
                t.unharmed,
                t.wrong.len()
            )
        })
        .collect();
    let wrong: Vec<_> = tallies.values().flat_map(|tally| &tally.wrong).collect();
    assert!(wrong.is_empty(), "{wrong:#?} {shown:#?}");
    assert!(tallies.len() >= 4 && tallies.values().any(|tally| tally.refused > 0), "{shown:#?}");
    if let Some(path) = std::env::var_os("TIDEMARK_DAMAGE_REPORT") {
        std::fs::write(path, shown.join("\n")).unwrap();
    }
}

/// Starts on these pairs, with the data directory of `cluster`.
async fn opened_on(cluster: &Cluster, mut pairs: Vec<Pair>) -> Result<Manager, OpenError> {
    pairs.sort();
    let store = MemoryStore::new();
    store.fill(pairs).await.unwrap();
    let clock = Arc::clone(&cluster.clock) as Arc<dyn Clock>;
    open(Arc::new(store), NewCluster::new(cluster.params.clone()), clock).await
}

/// Loses or damages the pairs one by one, as any store may.
#[tokio::test]
async fn no_damaged_pair_is_believed() {
    let cluster = Cluster::start("damaged_pairs").await;
    cluster.create("t").await;
    let file = cluster.insert("t", 10).await;
    cluster.kill("t", file, 3).await.unwrap();
    for n in 0..10 {
        create_schema(&cluster.manager, &format!("schema_{n}")).await;
    }
    let pairs = cluster.store.list("").await.unwrap();
    let refused = async |damaged: Vec<Pair>, what: String| {
        let Err(error) = opened_on(&cluster, damaged).await else { panic!("{what} is believed") };
        assert!(error.hint().is_some(), "{what}: {error}");
    };
    let mut random = Random::new(7);
    for (at, pair) in pairs.iter().enumerate() {
        let key = &pair.key;
        let mut lost = pairs.clone();
        lost.remove(at);
        refused(lost, format!("the loss of {key}")).await;
        for _ in 0..4 {
            let byte = random.below(pair.value.len() as u64);
            let bit = random.below(8);
            let mut flipped = pair.value.to_vec();
            flipped[usize::try_from(byte).unwrap()] ^= 1 << bit;
            let mut damaged = pairs.clone();
            damaged[at].value = flipped.into();
            refused(damaged, format!("bit {bit} of byte {byte} of {key}")).await;
        }
        let other = (at + 1) % pairs.len();
        let mut swapped = pairs.clone();
        (swapped[at].value, swapped[other].value) =
            (pairs[other].value.clone(), pair.value.clone());
        if swapped != pairs {
            refused(swapped, format!("{key} and the next swapped")).await;
        }
        let mut renamed = pairs.clone();
        renamed[at].key.push('0');
        refused(renamed, format!("{key} renamed")).await;
    }
    let truth = cluster.manager.state();
    assert_eq!(*opened_on(&cluster, pairs).await.unwrap().state(), *truth);
}

/// Without a file system there is no head file, but the lease knows.
#[tokio::test]
async fn any_store_that_went_back_is_refused() {
    let cluster = Cluster::start("went_back").await;
    let mut earlier = vec![];
    for n in 0..5 {
        earlier.push(cluster.store.list("").await.unwrap());
        create_schema(&cluster.manager, &format!("schema_{n}")).await;
    }
    cluster.manager.promise().await;
    for pairs in earlier {
        let error = opened_on(&cluster, pairs).await.err().unwrap();
        assert!(matches!(error, OpenError::Lost(_)), "{error:?}");
        assert!(error.to_string().contains("by hummock_001/lease.json "), "{error}");
    }
    let pairs = cluster.store.list("").await.unwrap();
    opened_on(&cluster, pairs).await.unwrap();
}

/// A checkpoint with a later number may know more than the lease.
#[tokio::test]
async fn a_later_checkpoint_is_word_enough() {
    let cluster = Cluster::start("later_checkpoint").await;
    let earlier = cluster.store.list("").await.unwrap();
    create_schema(&cluster.manager, "later").await;
    let state = cluster.manager.state();
    let storage = cluster.manager.state_store();
    tidemark_ledger::checkpoint::write(storage, "hummock_001", &state.version).await.unwrap();
    let error = opened_on(&cluster, earlier).await.err().unwrap();
    assert!(error.to_string().contains("checkpoint hummock_001/checkpoint/"), "{error}");
}
