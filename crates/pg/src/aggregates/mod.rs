//! Aggregate functions that answer as PostgreSQL's: result types, digits, overflow, NaN and infinity, `DISTINCT` and
//! `ORDER BY` inside a call, and frames that rows leave.
//!
//! `function` is the shape they share. `sums`, `exact`, `moments` and `interval_mean` are the states of aggregates
//! of numbers, which `numbers` defines; `rows` keeps the rows of a group. Of the engine's own functions only
//! `count`, `grouping` and those in `adopted` remain.

mod adopted;
mod distinct;
mod division;
mod documents;
mod exact;
mod function;
mod interval_mean;
mod intervals;
mod moments;
mod numbers;
mod ordered_set;
mod rows;
mod states;
mod sums;
mod texts;

use std::sync::{Arc, LazyLock};

use datafusion::arrow::datatypes::DataType;
use datafusion::functions_aggregate::{array_agg, bit_and_or_xor, bool_and_or, min_max};
use datafusion::logical_expr::AggregateUDF;

use adopted::{Adopted, Extremes};
pub use distinct::without_sums_of_sums;
use documents::Documents;
use function::aggregate;
pub use function::undefined;
use moments::{Relation, Statistic};
use numbers::{Regression, Statistics, Sum};
use ordered_set::OrderedSet;
use texts::StringAgg;

/// Aggregates of the engine that stay as they are. All others are replaced by those of [`all`], or removed: PostgreSQL
/// has no function of their name, or another one. Users cannot call `first_value` without `OVER`; the engine looks it up
/// for `DISTINCT ON`.
pub const ENGINE_AGGREGATES: [&str; 3] = ["count", "grouping", "first_value"];

/// `array_agg(x)`, for plans that collect rows.
pub static ARRAY_AGG: LazyLock<Arc<AggregateUDF>> = LazyLock::new(|| {
    let any = |_: &DataType| true;
    aggregate(Adopted {
        counts_duplicates: true,
        is_ordered: true,
        slides: true,
        ..Adopted::new("array_agg", array_agg::array_agg_udaf(), any)
    })
});

/// The functions that replace the engine's.
pub fn all() -> Vec<Arc<AggregateUDF>> {
    let mut functions = vec![
        aggregate(Sum),
        aggregate(StringAgg),
        aggregate(Documents::Array),
        aggregate(Documents::Object),
        aggregate(OrderedSet::PercentileCont),
        aggregate(OrderedSet::PercentileDisc),
        aggregate(OrderedSet::Mode),
        Arc::clone(&ARRAY_AGG),
    ];
    functions.extend(adopted_functions());
    functions.extend(statistics());
    functions.extend(regressions());
    functions
}

/// Whether a name is that of an aggregate function.
pub fn is_aggregate(name: &str) -> bool {
    static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| {
        let ours = all().into_iter().map(|function| function.name().to_owned());
        ours.chain(["count".to_owned(), "grouping".to_owned()]).collect()
    });
    NAMES.iter().any(|known| known == name)
}

/// Whether the result of an aggregate depends on the order of its distinct values: PostgreSQL sorts them.
pub fn is_sorted_when_distinct(name: &str) -> bool {
    matches!(name, "array_agg" | "string_agg")
}

/// Whether an aggregate shows its distinct values as they are, of equal ones the first.
pub fn keeps_first_of_equals(name: &str) -> bool {
    matches!(name, "array_agg" | "min" | "max")
}

/// Whether a name is that of an aggregate called with `WITHIN GROUP`.
pub fn is_ordered_set(name: &str) -> bool {
    matches!(name, "percentile_cont" | "percentile_disc" | "mode")
}

fn adopted_functions() -> Vec<Arc<AggregateUDF>> {
    let boolean = |data_type: &DataType| *data_type == DataType::Boolean;
    let integer = |data_type: &DataType| data_type.is_integer();
    let extreme = |name, inner, greatest| {
        aggregate(Extremes { engine: Adopted::new(name, inner, has_extremes), greatest })
    };
    let xor = Adopted {
        counts_duplicates: true,
        ..Adopted::new("bit_xor", bit_and_or_xor::bit_xor_udaf(), integer)
    };
    vec![
        extreme("min", min_max::min_udaf(), false),
        extreme("max", min_max::max_udaf(), true),
        aggregate(Adopted::new("bool_and", bool_and_or::bool_and_udaf(), boolean)),
        aggregate(Adopted::new("every", bool_and_or::bool_and_udaf(), boolean)),
        aggregate(Adopted::new("bool_or", bool_and_or::bool_or_udaf(), boolean)),
        aggregate(Adopted::new("bit_and", bit_and_or_xor::bit_and_udaf(), integer)),
        aggregate(Adopted::new("bit_or", bit_and_or_xor::bit_or_udaf(), integer)),
        aggregate(xor),
    ]
}

/// Types with `min` and `max`.
fn has_extremes(data_type: &DataType) -> bool {
    !matches!(
        data_type,
        DataType::Boolean
            | DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
            | DataType::Struct(_)
    )
}

fn statistics() -> Vec<Arc<AggregateUDF>> {
    let variance = |sample| Statistic::Variance { sample };
    let deviation = |sample| Statistic::Deviation { sample };
    let named = [
        ("avg", Statistic::Average),
        ("variance", variance(true)),
        ("var_samp", variance(true)),
        ("var_pop", variance(false)),
        ("stddev", deviation(true)),
        ("stddev_samp", deviation(true)),
        ("stddev_pop", deviation(false)),
    ];
    named.map(|(name, statistic)| aggregate(Statistics { name, statistic })).to_vec()
}

fn regressions() -> Vec<Arc<AggregateUDF>> {
    let named = [
        ("regr_count", Relation::Count),
        ("regr_avgx", Relation::AverageX),
        ("regr_avgy", Relation::AverageY),
        ("regr_sxx", Relation::SquaresX),
        ("regr_syy", Relation::SquaresY),
        ("regr_sxy", Relation::Products),
        ("regr_slope", Relation::Slope),
        ("regr_intercept", Relation::Intercept),
        ("regr_r2", Relation::Determination),
        ("covar_pop", Relation::Covariance { sample: false }),
        ("covar_samp", Relation::Covariance { sample: true }),
        ("corr", Relation::Correlation),
    ];
    named.map(|(name, relation)| aggregate(Regression { name, relation })).to_vec()
}
