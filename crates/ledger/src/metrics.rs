//! Prometheus metrics of the process, in its one registry.

use std::sync::LazyLock;

use prometheus::{
    Encoder as _, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, Opts, TextEncoder,
};

/// Values of the label `outcome`.
pub const OK: &str = "ok";
pub const FAILED: &str = "failed";

const COMMIT_BUCKETS: &[f64] =
    &[0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];
const STATEMENT_BUCKETS: &[f64] = &[0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 60.0];
const BACKUP_BUCKETS: &[f64] = &[0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0];

macro_rules! metrics {
    ($($(#[$doc:meta])* $name:ident: $kind:ty = $make:expr;)*) => {
        $($(#[$doc])* pub static $name: LazyLock<$kind> = LazyLock::new(|| registered($make));)*
    };
}

metrics! {
    /// Commits of the meta role.
    COMMIT_SECONDS: Histogram =
        histogram("tidemark_commit_seconds", "Time of a commit to the meta store", COMMIT_BUCKETS);
    BACKUP_SECONDS: HistogramVec = histograms(
        "tidemark_backup_seconds", "Time of taking a meta snapshot", BACKUP_BUCKETS, &["outcome"],
    );
    VACUUM_DELETED_OBJECTS: IntCounter =
        counter("tidemark_vacuum_deleted_objects_total", "Objects that vacuum has deleted");
    VACUUM_DELETED_BYTES: IntCounter =
        counter("tidemark_vacuum_deleted_bytes_total", "Bytes that vacuum has deleted");
    VACUUMS: IntCounterVec = counters("tidemark_vacuums_total", "Vacuums", &["outcome"]);
    COMPACTIONS: IntCounterVec =
        counters("tidemark_compactions_total", "Compactions in this process", &["outcome"]);
    COMPACTED_BYTES: IntCounterVec = counters(
        "tidemark_compacted_bytes_total", "Bytes read and written by compaction", &["direction"],
    );
    SCRUBBED_OBJECTS: IntCounterVec =
        counters("tidemark_scrubbed_objects_total", "Data files that the scrub has read", &["outcome"]);
    SCRUBBED_BYTES: IntCounter =
        counter("tidemark_scrubbed_bytes_total", "Bytes of data files that the scrub has read");
    SCRUB_DAMAGED: IntGauge =
        gauge("tidemark_scrub_damaged_objects", "Data files that the scrub found damaged or gone");
    SCRUB_COVERAGE: Gauge = Gauge::with_opts(Opts::new(
        "tidemark_scrub_coverage", "Share of the data that the scrub has read within its interval",
    )).expect("the name is a good one");
    SCRUB_OLDEST_SECONDS: Gauge = Gauge::with_opts(Opts::new(
        "tidemark_scrub_oldest_seconds",
        "Time since the data file was read that the scrub has not read for longest",
    )).expect("the name is a good one");
    STATEMENT_SECONDS: HistogramVec = histograms(
        "tidemark_statement_seconds", "Time until a statement has its result or its first rows",
        STATEMENT_BUCKETS, &["outcome"],
    );
    QUERY_TASKS: IntGauge =
        gauge("tidemark_query_tasks", "Tasks of statements that run, or that have not ended yet");
    QUERY_MEMORY_BYTES: IntGauge =
        gauge("tidemark_query_memory_bytes", "Memory that operators of queries hold");
    CONNECTIONS: IntGauge = gauge("tidemark_connections", "Connections of SQL clients");
    LEADING: IntGauge =
        gauge("tidemark_meta_leading", "Whether this process has the meta role (1) or stands by (0)");
    WRITABLE: IntGauge =
        gauge("tidemark_meta_writable", "Whether commits are taken: 0 when writes are stopped");
    META_CONNECTED: IntGauge =
        gauge("tidemark_meta_connected", "Whether this process follows the meta role");
    WORKERS: prometheus::IntGaugeVec = gauges("tidemark_workers", "Processes of the cluster", &["role"]);
    SNAPSHOTS: IntGauge =
        gauge("tidemark_meta_snapshots", "Meta snapshots in the current backup location");
    SNAPSHOT_AGE_SECONDS: Gauge = Gauge::with_opts(Opts::new(
        "tidemark_meta_snapshot_age_seconds",
        "Age of the newest meta snapshot of the current backup location; infinite where there is none",
    )).expect("the name is a good one");
    BACKUP_STORAGE_UP: IntGauge =
        gauge("tidemark_backup_storage_up", "Whether the list of meta snapshots can be read");
    COMMITTED_EPOCH: IntGauge =
        gauge("tidemark_max_committed_epoch", "The newest committed epoch known here");
    SAFE_EPOCH: IntGauge = gauge("tidemark_safe_epoch", "The oldest epoch that can be read");
    DATA_FILES: IntGauge = gauge("tidemark_data_files", "Data files that the version names");
    DATA_BYTES: IntGauge = gauge("tidemark_data_bytes", "Bytes of the data files that the version names");
}

/// All metrics in the Prometheus text format.
pub fn text() -> String {
    let mut text = vec![];
    // Writing to memory cannot fail, and every registered metric can be encoded.
    drop(TextEncoder::new().encode(&prometheus::gather(), &mut text));
    String::from_utf8(text).unwrap_or_default()
}

fn registered<C: prometheus::core::Collector + Clone + 'static>(collector: C) -> C {
    // Each metric is created once, under a unique name.
    prometheus::register(Box::new(collector.clone())).expect("a metric is registered once");
    collector
}

fn counter(name: &str, help: &str) -> IntCounter {
    IntCounter::new(name, help).expect("the name is a good one")
}

fn counters(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    IntCounterVec::new(Opts::new(name, help), labels).expect("the name is a good one")
}

fn gauge(name: &str, help: &str) -> IntGauge {
    IntGauge::new(name, help).expect("the name is a good one")
}

fn gauges(name: &str, help: &str, labels: &[&str]) -> prometheus::IntGaugeVec {
    prometheus::IntGaugeVec::new(Opts::new(name, help), labels).expect("the name is a good one")
}

fn histogram(name: &str, help: &str, buckets: &[f64]) -> Histogram {
    let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    Histogram::with_opts(options).expect("the name is a good one")
}

fn histograms(name: &str, help: &str, buckets: &[f64], labels: &[&str]) -> HistogramVec {
    let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    HistogramVec::new(options, labels).expect("the name is a good one")
}
