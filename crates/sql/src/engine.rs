//! The DataFusion setup of the frontend: one engine for all sessions, one planning state per statement.

use std::sync::Arc;

use datafusion::config::ConfigOptions;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::execution::{FunctionRegistry as _, TaskContext};
use datafusion::optimizer::{Analyzer, AnalyzerRule, OptimizerRule};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::prelude::SessionConfig;

use super::kept_rows::KeepingPlanner;
use super::planning_state::{PlanningState, StatePool};
use super::resolve::operators::Operators;
use super::resolve::time_operators::TimeOperators;
use super::rewrite::kept_queries::KeepQueries;
use super::rewrite::subqueries::Subqueries;
use crate::settings::Resources;
use crate::system_catalog;
use tidemark_engine::scan::{KeyFilters, StatisticsCache};
use tidemark_ledger::storage::{BlockStore, Storage};
use tidemark_pg::aggregates;
use tidemark_pg::error::SqlError;
use tidemark_pg::functions;
use tidemark_pg::growth::{CountedFunctions, InPieces, without_long_texts};
use tidemark_pg::key_rules::{OrderKeys, WindowKeys};
use tidemark_pg::memory::{Budget, StatementMemory};
use tidemark_pg::overflow::CheckedArithmetic;
use tidemark_pg::query_runtime::{self, QueryRuntime};
use tidemark_pg::text_of_bytes::{ENGINE_CASTS, TextOfBytes};
use tidemark_pg::types::spelling::SqlTypes;
use tidemark_pg::window_functions;

/// URL under which the state store is registered in DataFusion.
const STATE_STORE_URL: &str = "tidemark://state";

/// Memory of queries per row of a batch, and the range of the batch size: smaller batches cost more work than
/// their rows, larger ones do not fit in caches.
const BATCH_ROW_BYTES: usize = 512 << 10;
const BATCH_ROWS_MIN: usize = 256;
const BATCH_ROWS_MAX: usize = 8192;
/// Memory of queries per partition that runs at the same time.
const PARTITION_BYTES: usize = 32 << 20;

/// The engine that all sessions share.
pub struct Engine {
    states: StatePool,
    pub queries: QueryRuntime,
    pub budget: Arc<Budget>,
    /// The task context of work outside of queries, such as sorting rows to be written.
    pub tasks: Arc<TaskContext>,
    pub statistics: Arc<StatisticsCache>,
    pub key_filters: Arc<KeyFilters>,
    pub store_url: ObjectStoreUrl,
    pub blocks: Arc<BlockStore>,
    pub storage: Storage,
}

impl Engine {
    /// Creates the engine. `blocks` is how queries read what is written to `storage`.
    pub fn new(
        storage: Storage,
        blocks: BlockStore,
        database: &str,
        resources: &Resources,
    ) -> Result<Self, SqlError> {
        let (parallelism, memory) = (resources.parallelism, resources.memory_bytes);
        let store_url = ObjectStoreUrl::parse(STATE_STORE_URL)?;
        let budget = Budget::new(memory);
        let runtime = runtime(resources, &budget)?;
        runtime.register_object_store(store_url.as_ref(), storage.object_store());
        let config = SessionConfig::from(options())
            .with_target_partitions(parallelism.clamp(1, partitions_max(memory)))
            .with_batch_size(batch_rows(memory))
            .with_default_catalog_and_schema(database, tidemark_pg::PATH_SCHEMA)
            .with_create_default_catalog_and_schema(false);
        let mut base = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(Arc::new(runtime))
            // Before the default planners, which would give these operators another meaning.
            .with_expr_planners(vec![Arc::new(Operators), Arc::new(TimeOperators)])
            .with_default_features()
            .with_analyzer_rules(query_runtime::analyzer_rules(analyzer_rules()))
            .with_optimizer_rules(optimizer_rules())
            .with_physical_optimizer_rules(physical_rules())
            .with_query_planner(Arc::new(KeepingPlanner))
            .with_type_planner(Arc::new(SqlTypes))
            .build();
        for function in functions::all().into_iter().chain(system_catalog::functions()) {
            base.register_udf(function)?;
        }
        for function in ENGINE_CASTS.into_iter().chain(functions::NOT_AS_POSTGRES) {
            base.deregister_udf(function)?;
        }
        let engine_aggregates: Vec<String> = base.aggregate_functions().keys().cloned().collect();
        for name in engine_aggregates {
            if !aggregates::ENGINE_AGGREGATES.contains(&name.as_str()) {
                base.deregister_udaf(&name)?;
            }
        }
        for function in aggregates::all() {
            base.register_udaf(function)?;
        }
        for function in window_functions::all() {
            base.register_udwf(function)?;
        }
        functions::register_series(&mut base);
        let queries = QueryRuntime::new(parallelism);
        budget.watch().map_err(|e| SqlError::internal(format!("could not start a thread: {e}")))?;
        let tasks = base.task_ctx();
        Ok(Self {
            states: StatePool::new(base),
            queries,
            budget,
            tasks,
            statistics: Arc::default(),
            key_filters: Arc::new(KeyFilters::new(resources.meta_cache_bytes)),
            store_url,
            blocks: Arc::new(blocks),
            storage,
        })
    }

    /// Returns the planning state of a statement; it has no relations yet. `carry` adds to its options.
    pub fn planning_state(
        &self,
        memory: &Arc<StatementMemory>,
        carry: impl FnOnce(&mut ConfigOptions),
    ) -> PlanningState {
        let mut state = self.states.take();
        let options = state.config_mut().options_mut();
        memory.join(options);
        carry(options);
        state.mark_start_execution();
        state
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("storage", &self.storage).finish_non_exhaustive()
    }
}

/// DataFusion's analyzer rules, with ours before and after them.
fn analyzer_rules() -> Vec<Arc<dyn AnalyzerRule + Send + Sync>> {
    let mut rules: Vec<Arc<dyn AnalyzerRule + Send + Sync>> =
        vec![Arc::new(KeepQueries), Arc::new(WindowKeys)];
    rules.extend(Analyzer::new().rules);
    rules.push(Arc::new(Subqueries));
    rules.push(Arc::new(OrderKeys));
    rules.push(Arc::new(CheckedArithmetic::default()));
    rules.push(Arc::new(TextOfBytes));
    rules.push(Arc::new(CountedFunctions));
    rules
}

/// DataFusion's optimizer rules, which keep long texts out of plans, and the counting of the calls that they add.
fn optimizer_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let mut rules: Vec<_> =
        query_runtime::optimizer_rules().into_iter().map(without_long_texts).collect();
    rules = rules.into_iter().map(aggregates::without_sums_of_sums).collect();
    rules.push(Arc::new(CountedFunctions));
    rules
}

/// DataFusion's physical optimizer rules, with ours before projections are pushed into scans.
fn physical_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules = query_runtime::physical_rules();
    // It passes limits below functions that look ahead.
    rules.retain(|rule| rule.name() != "LimitPushPastWindows");
    let pushdown = rules.iter().position(|rule| rule.name() == "ProjectionPushdown");
    rules.insert(pushdown.unwrap_or(0), Arc::new(InPieces));
    rules
}

/// Rows per batch. Several operators of each partition buffer this number of rows, whatever their length, and
/// do not count them.
fn batch_rows(memory_bytes: usize) -> usize {
    (memory_bytes / BATCH_ROW_BYTES).clamp(BATCH_ROWS_MIN, BATCH_ROWS_MAX)
}

/// Most partitions of a query: each has its own batches.
fn partitions_max(memory_bytes: usize) -> usize {
    (memory_bytes / PARTITION_BYTES).max(1)
}

fn runtime(resources: &Resources, budget: &Budget) -> Result<RuntimeEnv, SqlError> {
    Ok(RuntimeEnvBuilder::new()
        .with_memory_pool(budget.pool())
        .with_metadata_cache_limit(resources.meta_cache_bytes)
        .build()?)
}

fn options() -> ConfigOptions {
    let mut options = ConfigOptions::new();
    // Numbers like 1.5 are numeric in PostgreSQL, not double precision.
    options.sql_parser.parse_float_as_decimal = true;
    // Errors say where in the query they are.
    options.sql_parser.collect_spans = true;
    // The filter of one aggregate would exclude files that another one needs.
    options.optimizer.enable_aggregate_dynamic_filter_pushdown = false;
    // The inputs of a UNION may differ in nullability.
    options.execution.skip_physical_aggregate_schema_check = true;
    // The Bloom filters of keys are checked before a scan is created, and stay in memory. A scan would read
    // them each time, and gain nothing: files are sorted by key, so the page index finds the one page.
    options.execution.parquet.bloom_filter_on_read = false;
    // now() has a time zone.
    options.execution.time_zone = Some("UTC".to_owned());
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_and_parts_of_a_query_are_as_memory_allows() {
        assert_eq!([64, 256, 1024, 4096].map(|mib| batch_rows(mib << 20)), [256, 512, 2048, 8192]);
        assert_eq!([1, 256, 4096].map(|mib| partitions_max(mib << 20)), [1, 8, 128]);
    }
}
