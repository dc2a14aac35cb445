//! The SQL type that an Arrow field's metadata names, where the Arrow type does not determine it.

use datafusion::arrow::datatypes::Field;

use tidemark_ledger::catalog::{ColumnType, SQL_TYPE_KEY};

use super::modifier;
use super::table::{PgType, by_sql_name};

/// The type in a field's metadata (`catalog::SQL_TYPE_KEY`). Expressions may carry the metadata of a column
/// whose type they changed, so it need not fit the Arrow type.
#[derive(Clone, Copy, Debug)]
pub struct DeclaredType {
    /// The type, or that of the elements if there are dimensions.
    pub pg_type: &'static PgType,
    pub modifier: i32,
    /// The number of `[]`.
    pub dimensions: usize,
}

impl DeclaredType {
    pub fn of(field: &Field) -> Option<Self> {
        Self::parse(field.metadata().get(SQL_TYPE_KEY)?)
    }

    fn parse(name: &str) -> Option<Self> {
        let scalar = name.trim_end_matches("[]");
        let dimensions = (name.len() - scalar.len()) / 2;
        let Some((scalar, limits)) = scalar.split_once('(') else {
            let pg_type = by_sql_name(scalar)?;
            return Some(Self { pg_type, modifier: modifier::NONE, dimensions });
        };
        let pg_type = by_sql_name(scalar)?;
        let modifier = modifier::parse(pg_type.column_type()?, limits.strip_suffix(')')?)?;
        Some(Self { pg_type, modifier, dimensions })
    }

    /// The type of the elements of an array or a vector.
    pub fn element(self) -> Option<Self> {
        match self.dimensions {
            0 => {
                let pg_type = self.pg_type.element()?;
                Some(Self { pg_type, modifier: modifier::NONE, dimensions: 0 })
            }
            dimensions => Some(Self { dimensions: dimensions - 1, ..self }),
        }
    }

    /// The column type that reads its text form; `None` for arrays.
    pub fn read_as(self) -> Option<ColumnType> {
        let column_type = self.pg_type.read_as().filter(|_| self.dimensions == 0)?;
        Some(modifier::limited(&column_type, self.modifier))
    }

    pub fn is_vector(self) -> bool {
        self.dimensions == 0 && self.pg_type.is_vector()
    }

    /// Returns the field of a list's elements with the element type of what the list declares.
    pub fn of_elements(list: &Field, element: &Field) -> Field {
        let declared = Self::of(list).and_then(Self::element);
        let declared = declared.map(|declared| (SQL_TYPE_KEY.to_owned(), declared.name()));
        element.clone().with_metadata(declared.into_iter().collect())
    }

    fn name(self) -> String {
        let scalar = &self.pg_type.sql_name;
        let limits = self.pg_type.column_type();
        let limits = limits.map(|of| modifier::shown(of, self.modifier.into()));
        format!("{scalar}{}{}", limits.unwrap_or_default(), "[]".repeat(self.dimensions))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        let names = [
            "numeric(15,2)",
            "numeric",
            "character varying(7)[]",
            "integer[][]",
            "timestamp with time zone",
            "\"char\"",
            "oidvector",
        ];
        for name in names {
            assert_eq!(DeclaredType::parse(name).unwrap().name(), name);
        }
        for name in ["", "[]", "nope", "integer(4)", "numeric(15", "_int4"] {
            assert!(DeclaredType::parse(name).is_none(), "{name}");
        }
    }
}
