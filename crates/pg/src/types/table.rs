//! The table of types: PostgreSQL's built-in types, and how Tidemark holds their values.

use std::collections::BTreeMap;
use std::mem::discriminant;
use std::sync::LazyLock;

use datafusion::arrow::datatypes::DataType;

use tidemark_ledger::catalog::ColumnType;

/// `typlen` of a type of variable length.
const VARIABLE: i16 = -1;
/// `typlen` of a type whose values end with a zero byte.
const CSTRING: i16 = -2;

/// Oids of the collations: the default one and `C`.
const DEFAULT_COLLATION: u32 = 100;
const C_COLLATION: u32 = 950;

pub(super) const TEXT: u32 = 25;
pub(super) const OID: u32 = 26;

/// A row of the table: a type as `pg_type` describes it, and the column type of its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PgType {
    pub oid: u32,
    /// `typname`: `int4`, `_int4`.
    pub name: String,
    /// What `format_type` prints: `integer`, `integer[]`.
    pub sql_name: String,
    /// Other names under which a statement may qualify or quote it: `pg_catalog.int`.
    pub(super) spellings: &'static [&'static str],
    /// Words of the SQL grammar that mean it.
    pub(super) words: &'static [&'static str],
    /// Oid of its array type, or 0.
    pub array_oid: u32,
    /// Oid of its element type, or 0.
    pub element_oid: u32,
    pub length: i16,
    pub category: char,
    pub align: char,
    pub storage: char,
    pub collation_oid: u32,
    /// `typispreferred`: whether it is the preferred type of its category.
    pub is_preferred: bool,
    pub(super) values: Values,
    /// The Arrow type that determines the SQL type, if there is one.
    told_by: Option<DataType>,
}

/// Who may have values of a type, and the column type that reads their text form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Values {
    /// Columns have the type.
    Column(ColumnType),
    /// A column declared with the type has this one instead.
    Alias(ColumnType),
    /// Parameters may have the type, columns of tables not.
    Parameter(ColumnType),
    /// Only the system catalogs know the type.
    Catalog,
}

/// Length, alignment and storage.
type Layout = (i16, char, char);

const VARLENA: Layout = (VARIABLE, 'i', 'x');
const WIDE_VARLENA: Layout = (VARIABLE, 'd', 'x');
const BYTE: Layout = (1, 'c', 'p');
const WORD: Layout = (4, 'i', 'p');
const DOUBLE: Layout = (8, 'd', 'p');

static TYPES: LazyLock<BTreeMap<u32, PgType>> = LazyLock::new(|| {
    let mut types = of_columns();
    types.extend(of_parameters());
    types.extend(of_catalogs());
    let arrays: Vec<_> = types.iter().filter(|t| t.array_oid != 0).map(array_of).collect();
    types.into_iter().chain(arrays).map(|t| (t.oid, t)).collect()
});

/// The types of columns.
fn of_columns() -> Vec<PgType> {
    use ColumnType::{
        BigInt, Boolean, Bytea, Date, Double, Integer, Interval, Jsonb, Numeric, Real, SmallInt,
        Text, Time, Timestamp, Timestamptz, Varchar,
    };
    let numeric = (VARIABLE, 'i', 'm');
    vec![
        row(16, "bool", "boolean", 1000, 'B', BYTE)
            .column(Boolean)
            .spelled(&["boolean"])
            .preferred(),
        row(17, "bytea", "bytea", 1001, 'U', VARLENA).column(Bytea),
        row(20, "int8", "bigint", 1016, 'N', DOUBLE).column(BigInt).spelled(&["bigint"]),
        row(21, "int2", "smallint", 1005, 'N', (2, 's', 'p'))
            .column(SmallInt)
            .spelled(&["smallint"]),
        row(23, "int4", "integer", 1007, 'N', WORD).column(Integer).spelled(&["int", "integer"]),
        row(TEXT, "text", "text", 1009, 'S', VARLENA)
            .column(Text)
            .collated(DEFAULT_COLLATION)
            .preferred(),
        row(700, "float4", "real", 1021, 'N', WORD).column(Real),
        row(701, "float8", "double precision", 1022, 'N', DOUBLE)
            .column(Double)
            .worded(&["float"])
            .preferred(),
        row(1043, "varchar", "character varying", 1015, 'S', VARLENA)
            .column(Varchar(None))
            .worded(&["string", "char varying"])
            .collated(DEFAULT_COLLATION),
        row(1082, "date", "date", 1182, 'D', WORD).column(Date),
        row(1083, "time", "time without time zone", 1183, 'D', DOUBLE).column(Time),
        row(1114, "timestamp", "timestamp without time zone", 1115, 'D', DOUBLE).column(Timestamp),
        row(1184, "timestamptz", "timestamp with time zone", 1185, 'D', DOUBLE)
            .column(Timestamptz)
            .preferred(),
        row(1186, "interval", "interval", 1187, 'T', (16, 'd', 'p')).column(Interval).preferred(),
        row(1700, "numeric", "numeric", 1231, 'N', numeric)
            .column(Numeric(None))
            .worded(&["decimal", "dec"]),
        row(3802, "jsonb", "jsonb", 3807, 'U', VARLENA).column(Jsonb),
    ]
}

/// Types whose values clients and system relations have, but no column of a table.
fn of_parameters() -> Vec<PgType> {
    use Values::{Alias, Parameter};
    let text = || Parameter(ColumnType::Text);
    vec![
        row(18, "char", "\"char\"", 1002, 'Z', BYTE).with(text()),
        row(19, "name", "name", 1003, 'S', (64, 'c', 'p'))
            .with(text())
            .collated(C_COLLATION)
            .elements(18),
        row(OID, "oid", "oid", 1028, 'N', WORD).with(Parameter(ColumnType::BigInt)).preferred(),
        // PostgreSQL's `json` keeps the text as written; `jsonb` supports the same queries.
        row(114, "json", "json", 199, 'U', VARLENA).with(Alias(ColumnType::Jsonb)),
        row(705, "unknown", "unknown", 0, 'X', (CSTRING, 'c', 'p')).with(text()),
        row(1042, "bpchar", "character", 1014, 'S', VARLENA)
            .with(Alias(ColumnType::Varchar(None)))
            .collated(DEFAULT_COLLATION),
    ]
}

/// Types that only the system catalogs name.
fn of_catalogs() -> Vec<PgType> {
    let vector = (VARIABLE, 'i', 'p');
    vec![
        row(22, "int2vector", "int2vector", 1006, 'A', vector).elements(21),
        row(24, "regproc", "regproc", 1008, 'N', WORD),
        row(28, "xid", "xid", 1011, 'U', WORD),
        row(30, "oidvector", "oidvector", 1013, 'A', vector).elements(OID),
        row(194, "pg_node_tree", "pg_node_tree", 0, 'Z', VARLENA),
        row(869, "inet", "inet", 1041, 'I', (VARIABLE, 'i', 'm')),
        row(1033, "aclitem", "aclitem", 1034, 'U', (12, 'i', 'p')),
        row(1266, "timetz", "time with time zone", 1270, 'D', (12, 'd', 'p')),
        row(2202, "regprocedure", "regprocedure", 2207, 'N', WORD),
        row(2203, "regoper", "regoper", 2208, 'N', WORD),
        row(2204, "regoperator", "regoperator", 2209, 'N', WORD),
        row(2205, "regclass", "regclass", 2210, 'N', WORD),
        row(2206, "regtype", "regtype", 2211, 'N', WORD),
        row(2249, "record", "record", 2287, 'P', WIDE_VARLENA),
        row(2275, "cstring", "cstring", 1263, 'P', (CSTRING, 'c', 'p')),
        row(2276, "any", "\"any\"", 0, 'P', WORD),
        row(2277, "anyarray", "anyarray", 0, 'P', WIDE_VARLENA),
        row(2278, "void", "void", 0, 'P', WORD),
        row(2279, "trigger", "trigger", 0, 'P', WORD),
        row(2281, "internal", "internal", 0, 'P', DOUBLE),
        row(2283, "anyelement", "anyelement", 0, 'P', WORD),
        row(2776, "anynonarray", "anynonarray", 0, 'P', WORD),
        row(2950, "uuid", "uuid", 2951, 'U', (16, 'c', 'p')),
        row(3500, "anyenum", "anyenum", 0, 'P', WORD),
        row(3831, "anyrange", "anyrange", 0, 'P', WIDE_VARLENA),
        row(4089, "regnamespace", "regnamespace", 4090, 'N', WORD),
        row(4096, "regrole", "regrole", 4097, 'N', WORD),
        row(4191, "regcollation", "regcollation", 4192, 'N', WORD),
    ]
}

/// A type by oid, `typname`, SQL name, oid of its array type, category and layout.
fn row(
    oid: u32,
    name: &str,
    sql_name: &str,
    array_oid: u32,
    category: char,
    layout: Layout,
) -> PgType {
    let (length, align, storage) = layout;
    PgType {
        oid,
        name: name.to_owned(),
        sql_name: sql_name.to_owned(),
        spellings: &[],
        words: &[],
        array_oid,
        element_oid: 0,
        length,
        category,
        align,
        storage,
        collation_oid: 0,
        is_preferred: false,
        values: Values::Catalog,
        told_by: None,
    }
}

fn array_of(element: &PgType) -> PgType {
    let category = if element.category == 'P' { 'P' } else { 'A' };
    let align = if element.align == 'd' { 'd' } else { 'i' };
    let (name, sql_name) = (format!("_{}", element.name), format!("{}[]", element.sql_name));
    let array = row(element.array_oid, &name, &sql_name, 0, category, (VARIABLE, align, 'x'));
    array.elements(element.oid).collated(element.collation_oid)
}

/// What a row has only if it says so.
impl PgType {
    fn column(self, column_type: ColumnType) -> Self {
        let told_by = column_type.told_by_arrow().then(|| column_type.arrow_type());
        Self { told_by, ..self.with(Values::Column(column_type)) }
    }

    fn with(self, values: Values) -> Self {
        Self { values, ..self }
    }

    fn spelled(self, spellings: &'static [&'static str]) -> Self {
        Self { spellings, ..self }
    }

    fn worded(self, words: &'static [&'static str]) -> Self {
        Self { words, ..self }
    }

    fn elements(self, element_oid: u32) -> Self {
        Self { element_oid, ..self }
    }

    fn collated(self, collation_oid: u32) -> Self {
        Self { collation_oid, ..self }
    }

    fn preferred(self) -> Self {
        Self { is_preferred: true, ..self }
    }
}

impl PgType {
    /// The row of a column's type; of an array, the row of its elements' type.
    pub fn of(column_type: &ColumnType) -> &'static Self {
        let kind = discriminant(column_type.scalar());
        types()
            .find(|t| t.column_type().is_some_and(|column| discriminant(column) == kind))
            .expect("every column type has a row")
    }

    /// `typbyval`: whether values are passed by value.
    pub fn by_value(&self) -> bool {
        (1..=8).contains(&self.length)
    }

    /// `typtype`: `p` for a pseudo-type, else `b`.
    pub fn kind(&self) -> char {
        if matches!(self.category, 'P' | 'X') { 'p' } else { 'b' }
    }

    /// Whether it is the array type of another type; vectors are not.
    pub fn is_array(&self) -> bool {
        self.name.starts_with('_')
    }

    /// Whether it is `int2vector` or `oidvector`, whose subscripts count from 0.
    pub fn is_vector(&self) -> bool {
        self.category == 'A' && !self.is_array()
    }

    /// The type of the elements of an array or a vector.
    pub fn element(&self) -> Option<&'static Self> {
        if self.category == 'A' { by_oid(self.element_oid) } else { None }
    }

    /// The column type, without limits, if columns have this type.
    pub fn column_type(&self) -> Option<&ColumnType> {
        match &self.values {
            Values::Column(column_type) => Some(column_type),
            Values::Alias(_) | Values::Parameter(_) | Values::Catalog => None,
        }
    }

    /// The type of columns declared with this one, without limits.
    pub(super) fn declared_as(&self) -> Option<&ColumnType> {
        match &self.values {
            Values::Column(column_type) | Values::Alias(column_type) => Some(column_type),
            Values::Parameter(_) | Values::Catalog => None,
        }
    }

    /// The column type that reads the text form of values.
    pub fn read_as(&self) -> Option<ColumnType> {
        match &self.values {
            Values::Column(column_type)
            | Values::Alias(column_type)
            | Values::Parameter(column_type) => Some(column_type.clone()),
            Values::Catalog => Some(ColumnType::Array(Box::new(self.element()?.read_as()?))),
        }
    }
}

/// Every type, by oid.
pub fn types() -> impl Iterator<Item = &'static PgType> {
    TYPES.values()
}

/// The types that columns have, without limits and without arrays.
pub fn column_types() -> impl Iterator<Item = &'static ColumnType> {
    types().filter_map(PgType::column_type)
}

pub fn by_oid(oid: u32) -> Option<&'static PgType> {
    TYPES.get(&oid)
}

/// The type with this `typname`.
pub(super) fn by_type_name(name: &str) -> Option<&'static PgType> {
    types().find(|t| t.name == name)
}

/// The type with this SQL name.
pub(super) fn by_sql_name(name: &str) -> Option<&'static PgType> {
    types().find(|t| t.sql_name == name)
}

/// The type that this Arrow type determines.
pub(super) fn told_by(arrow_type: &DataType) -> Option<&'static PgType> {
    types().find(|t| t.told_by.as_ref() == Some(arrow_type))
}
