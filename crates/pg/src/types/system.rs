//! The types of system columns.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field};

use tidemark_ledger::catalog::SQL_TYPE_KEY;

use super::names::TypeRef;
use super::table::PgType;

/// The type of a system relation's column, with its oid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum SystemType {
    Bool = 16,
    Int2 = 21,
    Int4 = 23,
    Int8 = 20,
    Float4 = 700,
    Float8 = 701,
    Oid = 26,
    Xid = 28,
    Regproc = 24,
    Char = 18,
    Name = 19,
    Text = 25,
    Varchar = 1043,
    NodeTree = 194,
    Inet = 869,
    Bytea = 17,
    Jsonb = 3802,
    Interval = 1186,
    Timestamp = 1114,
    Timestamptz = 1184,
    Int2Vector = 22,
    OidVector = 30,
    Int2Array = 1005,
    Float4Array = 1021,
    OidArray = 1028,
    CharArray = 1002,
    NameArray = 1003,
    TextArray = 1009,
    AclArray = 1034,
}

impl SystemType {
    /// Its oid in `pg_type`.
    pub const fn oid(self) -> u32 {
        self as u32
    }

    /// The Arrow type that represents it. Only oids are unsigned.
    pub fn arrow_type(self) -> DataType {
        represented(TypeRef::of_oid(self.oid()).pg_type())
    }

    /// Returns a field whose metadata names the SQL type, as for user columns. Types represented as oids are
    /// sent as oids.
    pub fn field(self, name: &str) -> Field {
        let sent_as = if self.arrow_type() == DataType::UInt32 { Self::Oid } else { self };
        let sql_name = TypeRef::of_oid(sent_as.oid()).name();
        Field::new(name, self.arrow_type(), true)
            .with_metadata([(SQL_TYPE_KEY.to_owned(), sql_name)].into())
    }
}

fn represented(pg_type: &PgType) -> DataType {
    if let Some(column_type) = pg_type.column_type() {
        return column_type.arrow_type();
    }
    if let Some(element) = pg_type.element() {
        return DataType::List(Arc::new(Field::new_list_field(represented(element), true)));
    }
    // A type of four bytes that no column has is an oid or stands for one; all others are shown as text.
    if pg_type.length == 4 { DataType::UInt32 } else { DataType::Utf8View }
}
