//! The keys that a query asks for, if its filters list them: files that hold none of them are not scanned.

use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::Session;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::physical_expr::utils::{Guarantee, LiteralGuarantee};
use datafusion::prelude::Expr;

use super::key_filters::SoughtKeys;
use tidemark_ledger::catalog::{Column, Table};
use tidemark_ledger::sst::{KeyColumn, Keys};

/// Maximum number of keys to look up one by one; more are left to the statistics of files and pages.
const KEYS_MAX: usize = 64;

/// Keys to look up.
#[derive(Debug)]
pub struct Sought {
    /// Sorted.
    pub keys: Vec<Bytes>,
    pub values: SoughtKeys,
}

impl Sought {
    /// The keys of the rows that all of `filters` may let through. `None` if the filters do not
    /// determine them, or if there are too many.
    pub fn by(
        filters: &[Expr],
        table: &Table,
        schema: &SchemaRef,
        session: &dyn Session,
    ) -> Result<Option<Self>> {
        if table.primary_key.is_empty() || filters.is_empty() {
            return Ok(None);
        }
        let known = guarantees(filters, schema, session)?;
        let named = |column: &Column| values_of(column, &known);
        let Some(named) = table.key_columns().map(named).collect::<Option<Vec<_>>>() else {
            return Ok(None);
        };
        let count = named.iter().try_fold(1, |n: usize, values| n.checked_mul(values.len()));
        let Some(count) = count.filter(|count| (1..=KEYS_MAX).contains(count)) else {
            return Ok(None);
        };
        // Combines every value of a column with every one of those after it.
        let mut repeated = count;
        let mut columns: Vec<ArrayRef> = vec![];
        for values in named {
            repeated /= values.len();
            let values = (0..count).map(|row| values[row / repeated % values.len()].clone());
            columns.push(ScalarValue::iter_to_array(values)?);
        }
        Ok(Self::of(table, &columns))
    }

    fn of(table: &Table, columns: &[ArrayRef]) -> Option<Self> {
        // 0 and -0 are equal as numbers, but differ in their bytes.
        let is_float =
            |column: &ArrayRef| matches!(KeyColumn::of(column), Some(KeyColumn::Float(_)));
        if columns.iter().any(is_float) {
            return None;
        }
        let keys = Keys::of_columns(columns)?;
        let rows = columns.first()?.len();
        let mut sorted =
            (0..rows).map(|row| keys.row(row).map(Bytes::from)).collect::<Option<Vec<_>>>()?;
        sorted.sort_unstable();
        let ids = table.key_columns().map(|column| column.id);
        Some(Self { keys: sorted, values: SoughtKeys::new(ids.zip(columns)) })
    }
}

/// The columns whose values the filters restrict to a list, or exclude one. Filters without a physical form yet, such
/// as subqueries, are ignored.
pub fn guarantees(
    filters: &[Expr],
    schema: &SchemaRef,
    session: &dyn Session,
) -> Result<Vec<LiteralGuarantee>> {
    let schema = DFSchema::try_from(Arc::clone(schema))?;
    let filters = filters
        .iter()
        .filter_map(|filter| session.create_physical_expr(filter.clone(), &schema).ok());
    Ok(filters.flat_map(|filter| LiteralGuarantee::analyze(&filter)).collect())
}

/// The values that a column may have, if it is restricted to a list of values of its type.
fn values_of(column: &Column, known: &[LiteralGuarantee]) -> Option<Vec<ScalarValue>> {
    let its_type = column.column_type.arrow_type();
    let is_of =
        |g: &&LiteralGuarantee| g.guarantee == Guarantee::In && g.column.name == column.name;
    let lists = known.iter().filter(is_of).map(|g| &g.literals);
    let fits = |value: &ScalarValue| !value.is_null() && value.data_type() == its_type;
    let list = lists.filter(|list| list.iter().all(fits)).min_by_key(|list| list.len())?;
    Some(list.iter().cloned().collect())
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::{SessionContext, ident, lit};

    use super::*;
    use tidemark_ledger::catalog::ColumnType;
    use tidemark_ledger::id::ColumnId;
    use tidemark_ledger::sst::schema::table_schema;

    fn table(key: &[ColumnType]) -> Table {
        let column = |(position, column_type): (usize, &ColumnType)| Column {
            id: ColumnId(i32::try_from(position).unwrap() + 1),
            name: format!("c{position}"),
            column_type: column_type.clone(),
            not_null: true,
            default: None,
            backfill: None,
        };
        let columns: Vec<Column> = key.iter().enumerate().map(column).collect();
        let primary_key = columns.iter().map(|column| column.id).collect();
        Table { columns, primary_key, next_column_id: ColumnId(9) }
    }

    /// Number of keys that the filters name, if they do.
    fn named(key: &[ColumnType], filters: &[Expr]) -> Option<usize> {
        let (table, state) = (table(key), SessionContext::new().state());
        let sought = Sought::by(filters, &table, &table_schema(&table), &state).unwrap();
        sought.map(|sought| {
            assert!(sought.keys.is_sorted());
            sought.keys.len()
        })
    }

    #[test]
    fn filters_name_keys_where_they_name_each_column_of_it() {
        let number = || [ColumnType::BigInt];
        let is = |value: i64| ident("c0").eq(lit(value));
        assert_eq!(named(&number(), &[is(7)]), Some(1));
        assert_eq!(named(&number(), &[is(7).or(is(8)).or(is(7))]), Some(2));
        assert_eq!(
            named(&number(), &[ident("c0").in_list(vec![lit(1_i64), lit(2_i64)], false)]),
            Some(2)
        );
        assert_eq!(named(&number(), &[ident("c0").in_list(vec![lit(1_i64)], true)]), None);
        assert_eq!(named(&number(), &[is(7).or(ident("c0").gt(lit(9_i64)))]), None);
        assert_eq!(named(&number(), &[ident("c0").eq(lit(7_i32))]), None, "not of its type");
        assert_eq!(named(&number(), &[]), None);
        let many = (0..=KEYS_MAX as i64).map(is).reduce(Expr::or).unwrap();
        assert_eq!(named(&number(), &[many]), None);
        assert_eq!(named(&[ColumnType::Double], &[ident("c0").eq(lit(0.0))]), None);
    }

    #[test]
    fn keys_of_several_columns_are_all_that_can_be_made() {
        let key = [ColumnType::BigInt, ColumnType::BigInt];
        let among = |column: &str, values: &[i64]| {
            ident(column).in_list(values.iter().map(|v| lit(*v)).collect(), false)
        };
        assert_eq!(named(&key, &[among("c0", &[1, 2, 3]), among("c1", &[5, 6])]), Some(6));
        assert_eq!(named(&key, &[among("c0", &[1, 2, 3])]), None);
        let (table, state) = (table(&key), SessionContext::new().state());
        let filters = [among("c0", &[1, 2]), among("c1", &[5])];
        let sought = Sought::by(&filters, &table, &table_schema(&table), &state).unwrap().unwrap();
        let ends: Vec<(u8, u8)> = sought.keys.iter().map(|key| (key[7], key[15])).collect();
        assert_eq!(ends, [(1, 5), (2, 5)]);
    }
}
