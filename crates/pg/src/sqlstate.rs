//! PostgreSQL's error codes, and the mapping of engine errors to them.

use std::fmt;

use tidemark_ledger::meta_error::ErrorKind;

/// A five-character error code, which clients test for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SqlState(&'static str);

impl SqlState {
    /// Returns the code for an error of the meta role.
    pub const fn of_meta(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::DuplicateSchema => Self::DUPLICATE_SCHEMA,
            ErrorKind::DuplicateRelation => Self::DUPLICATE_TABLE,
            ErrorKind::DuplicateColumn => Self::DUPLICATE_COLUMN,
            ErrorKind::UndefinedSchema => Self::INVALID_SCHEMA_NAME,
            ErrorKind::UndefinedRelation => Self::UNDEFINED_TABLE,
            ErrorKind::UndefinedColumn => Self::UNDEFINED_COLUMN,
            ErrorKind::UndefinedParameter | ErrorKind::UndefinedSnapshot => Self::UNDEFINED_OBJECT,
            ErrorKind::WrongRelationKind => Self::WRONG_OBJECT_TYPE,
            ErrorKind::ReservedName => Self::RESERVED_NAME,
            ErrorKind::InvalidDefinition => Self::INVALID_TABLE_DEFINITION,
            ErrorKind::NotSupported => Self::FEATURE_NOT_SUPPORTED,
            ErrorKind::DependentObjects => Self::DEPENDENT_OBJECTS_STILL_EXIST,
            ErrorKind::InvalidParameter => Self::INVALID_PARAMETER_VALUE,
            ErrorKind::ImmutableParameter => Self::CANT_CHANGE_RUNTIME_PARAM,
            ErrorKind::Conflict | ErrorKind::GivenUp => Self::SERIALIZATION_FAILURE,
            ErrorKind::DiskFull => Self::DISK_FULL,
            ErrorKind::Storage => Self::IO_ERROR,
            ErrorKind::Damaged => Self::DATA_CORRUPTED,
            ErrorKind::Deposed => Self::OBJECT_NOT_IN_PREREQUISITE_STATE,
            ErrorKind::Unknown => Self::TRANSACTION_RESOLUTION_UNKNOWN,
            ErrorKind::Internal => Self::INTERNAL_ERROR,
        }
    }

    /// Returns the five characters.
    pub const fn code(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

macro_rules! codes {
    ($($name:ident = $code:literal,)*) => {
        impl SqlState {
            $(pub const $name: Self = Self($code);)*

            /// Every code that has a name.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
        }
    };
}

codes! {
    SUCCESSFUL_COMPLETION = "00000",
    CONNECTION_FAILURE = "08006",
    TRANSACTION_RESOLUTION_UNKNOWN = "08007",
    PROTOCOL_VIOLATION = "08P01",
    FEATURE_NOT_SUPPORTED = "0A000",
    CARDINALITY_VIOLATION = "21000",
    STRING_DATA_RIGHT_TRUNCATION = "22001",
    NUMERIC_VALUE_OUT_OF_RANGE = "22003",
    INVALID_PRECEDING_OR_FOLLOWING_SIZE = "22013",
    INVALID_ARGUMENT_FOR_NTILE = "22014",
    INVALID_ARGUMENT_FOR_NTH_VALUE = "22016",
    INVALID_ARGUMENT_FOR_LOGARITHM = "2201E",
    INVALID_ARGUMENT_FOR_POWER_FUNCTION = "2201F",
    INVALID_ROW_COUNT_IN_LIMIT_CLAUSE = "2201W",
    INVALID_ROW_COUNT_IN_RESULT_OFFSET_CLAUSE = "2201X",
    INVALID_ARGUMENT_FOR_WIDTH_BUCKET = "2201G",
    NULL_VALUE_NOT_ALLOWED = "22004",
    INVALID_DATETIME_FORMAT = "22007",
    DATETIME_FIELD_OVERFLOW = "22008",
    INVALID_TIME_ZONE_DISPLACEMENT = "22009",
    DIVISION_BY_ZERO = "22012",
    INVALID_REGULAR_EXPRESSION = "2201B",
    INTERVAL_FIELD_OVERFLOW = "22015",
    CHARACTER_NOT_IN_REPERTOIRE = "22021",
    INVALID_PARAMETER_VALUE = "22023",
    INVALID_ESCAPE_SEQUENCE = "22025",
    SUBSTRING_ERROR = "22011",
    ARRAY_SUBSCRIPT_ERROR = "2202E",
    INVALID_TEXT_REPRESENTATION = "22P02",
    INVALID_BINARY_REPRESENTATION = "22P03",
    BAD_COPY_FILE_FORMAT = "22P04",
    UNTRANSLATABLE_CHARACTER = "22P05",
    NOT_NULL_VIOLATION = "23502",
    UNIQUE_VIOLATION = "23505",
    ACTIVE_SQL_TRANSACTION = "25001",
    READ_ONLY_SQL_TRANSACTION = "25006",
    IN_FAILED_SQL_TRANSACTION = "25P02",
    IDLE_IN_TRANSACTION_SESSION_TIMEOUT = "25P03",
    INVALID_SQL_STATEMENT_NAME = "26000",
    INVALID_AUTHORIZATION_SPECIFICATION = "28000",
    DEPENDENT_OBJECTS_STILL_EXIST = "2BP01",
    INVALID_CURSOR_NAME = "34000",
    INVALID_CATALOG_NAME = "3D000",
    INVALID_SCHEMA_NAME = "3F000",
    SERIALIZATION_FAILURE = "40001",
    INSUFFICIENT_PRIVILEGE = "42501",
    SYNTAX_ERROR = "42601",
    INVALID_NAME = "42602",
    NAME_TOO_LONG = "42622",
    DUPLICATE_COLUMN = "42701",
    AMBIGUOUS_COLUMN = "42702",
    AMBIGUOUS_FUNCTION = "42725",
    UNDEFINED_COLUMN = "42703",
    UNDEFINED_OBJECT = "42704",
    DUPLICATE_ALIAS = "42712",
    GROUPING_ERROR = "42803",
    DATATYPE_MISMATCH = "42804",
    WRONG_OBJECT_TYPE = "42809",
    CANNOT_COERCE = "42846",
    UNDEFINED_FUNCTION = "42883",
    RESERVED_NAME = "42939",
    UNDEFINED_TABLE = "42P01",
    WINDOWING_ERROR = "42P20",
    UNDEFINED_PARAMETER = "42P02",
    DUPLICATE_CURSOR = "42P03",
    DUPLICATE_SCHEMA = "42P06",
    DUPLICATE_TABLE = "42P07",
    INVALID_COLUMN_REFERENCE = "42P10",
    INVALID_TABLE_DEFINITION = "42P16",
    DISK_FULL = "53100",
    OUT_OF_MEMORY = "53200",
    TOO_MANY_CONNECTIONS = "53300",
    PROGRAM_LIMIT_EXCEEDED = "54000",
    STATEMENT_TOO_COMPLEX = "54001",
    TOO_MANY_COLUMNS = "54011",
    OBJECT_NOT_IN_PREREQUISITE_STATE = "55000",
    CANT_CHANGE_RUNTIME_PARAM = "55P02",
    QUERY_CANCELED = "57014",
    IDLE_SESSION_TIMEOUT = "57P05",
    IO_ERROR = "58030",
    INTERNAL_ERROR = "XX000",
    DATA_CORRUPTED = "XX001",
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn codes_have_five_characters_and_one_name() {
        let distinct: HashSet<_> = SqlState::ALL.iter().map(|state| state.code()).collect();
        assert_eq!(distinct.len(), SqlState::ALL.len());
        assert!(distinct.iter().all(|code| code.len() == 5));
    }
}
