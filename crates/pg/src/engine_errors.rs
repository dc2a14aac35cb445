//! Maps errors of the query engine to the errors PostgreSQL would raise.
//!
//! DataFusion distinguishes most planning errors only by their text, so this is the one module that matches
//! on texts. An unknown text is kept and gets the code of its error variant.

mod texts;

use std::error::Error;
use std::io;

use datafusion::arrow::error::ArrowError;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use datafusion::parquet::errors::ParquetError;

use crate::PATH_SCHEMA;
use crate::error::SqlError;
use crate::sqlstate::SqlState;
use tidemark_ledger::DamagedFile;

/// Maps the error to PostgreSQL's code and message. A [`SqlError`] inside is returned unchanged.
pub fn from_datafusion(error: DataFusionError) -> SqlError {
    map(&error)
}

impl From<DataFusionError> for SqlError {
    fn from(error: DataFusionError) -> Self {
        from_datafusion(error)
    }
}

fn map(error: &DataFusionError) -> SqlError {
    match error {
        DataFusionError::ArrowError(error, _) => arrow(error),
        DataFusionError::ParquetError(error) => parquet(error),
        DataFusionError::ObjectStore(error) => object_store(error),
        DataFusionError::IoError(error) => io_error(error),
        DataFusionError::SQL(error, _) => SqlError::syntax(first_line(&error.to_string())),
        DataFusionError::NotImplemented(text) => not_implemented(text),
        DataFusionError::Internal(text) => internal(text),
        DataFusionError::Plan(text) => plan(text),
        DataFusionError::Configuration(text) => {
            SqlError::new(SqlState::INVALID_PARAMETER_VALUE, lowercase_first(first_line(text)))
        }
        DataFusionError::SchemaError(error, _) => schema(error),
        DataFusionError::Execution(text) => execution(text),
        DataFusionError::ExecutionJoin(error) => SqlError::internal(error.to_string()),
        DataFusionError::ResourcesExhausted(text) => {
            SqlError::new(SqlState::OUT_OF_MEMORY, "out of memory").detail(first_line(text))
        }
        DataFusionError::External(error) => foreign(error.as_ref()),
        DataFusionError::Context(_, inner) => map(inner),
        DataFusionError::Diagnostic(diagnostic, inner) => match diagnostic.span {
            Some(span) => map(inner).at(span.start.line, span.start.column),
            None => map(inner),
        },
        DataFusionError::Collection(errors) => match errors.first() {
            Some(first) => map(first),
            None => SqlError::internal("an empty collection of errors"),
        },
        DataFusionError::Shared(inner) => map(inner),
        DataFusionError::Substrait(text) | DataFusionError::Ffi(text) => {
            SqlError::internal(first_line(text))
        }
    }
}

/// Returns the first error in the chain of causes that is known.
fn foreign(error: &(dyn Error + 'static)) -> SqlError {
    let mut cause = Some(error);
    while let Some(current) = cause {
        if let Some(known) = known(current) {
            return known;
        }
        cause = current.source();
    }
    let text = error.to_string();
    if text.starts_with("regex parse error") {
        let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
        let message = format!("invalid regular expression: {reason}");
        return SqlError::new(SqlState::INVALID_REGULAR_EXPRESSION, message);
    }
    SqlError::internal(text)
}

fn known(error: &(dyn Error + 'static)) -> Option<SqlError> {
    if let Some(error) = error.downcast_ref::<SqlError>() {
        return Some(error.clone());
    }
    if let Some(error) = error.downcast_ref::<DataFusionError>() {
        return Some(map(error));
    }
    if let Some(damaged) = error.downcast_ref::<DamagedFile>() {
        let error = SqlError::new(SqlState::DATA_CORRUPTED, damaged.to_string());
        return Some(error.detail(damaged.detail()).hint(damaged.hint()));
    }
    if let Some(error) = error.downcast_ref::<ArrowError>() {
        return Some(arrow(error));
    }
    if let Some(error) = error.downcast_ref::<ParquetError>() {
        return Some(parquet(error));
    }
    if let Some(error) = error.downcast_ref::<object_store::Error>() {
        return Some(object_store(error));
    }
    error.downcast_ref::<io::Error>().map(io_error)
}

fn parquet(error: &ParquetError) -> SqlError {
    match error {
        ParquetError::External(source) => foreign(source.as_ref()),
        other => {
            SqlError::new(SqlState::DATA_CORRUPTED, format!("could not read data file: {other}"))
        }
    }
}

fn object_store(error: &object_store::Error) -> SqlError {
    if let object_store::Error::NotFound { path, .. } = error {
        let message = format!("could not read object \"{path}\": it does not exist");
        return SqlError::new(SqlState::IO_ERROR, message);
    }
    let mut cause = error.source();
    while let Some(current) = cause {
        if let Some(io) = current.downcast_ref::<io::Error>()
            && is_disk_full(io)
        {
            return disk_full();
        }
        cause = current.source();
    }
    SqlError::new(SqlState::IO_ERROR, format!("object store failed: {error}"))
}

fn io_error(error: &io::Error) -> SqlError {
    if is_disk_full(error) {
        return disk_full();
    }
    match error.get_ref() {
        Some(inner) => foreign(inner),
        None => SqlError::new(SqlState::IO_ERROR, error.to_string()),
    }
}

fn is_disk_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn disk_full() -> SqlError {
    SqlError::new(SqlState::DISK_FULL, "could not write: no space left on device")
}

fn schema(error: &SchemaError) -> SqlError {
    match error {
        SchemaError::AmbiguousReference { field } => SqlError::new(
            SqlState::AMBIGUOUS_COLUMN,
            format!("column reference \"{}\" is ambiguous", field.name),
        ),
        SchemaError::DuplicateQualifiedField { name, .. }
        | SchemaError::DuplicateUnqualifiedField { name } => SqlError::new(
            SqlState::DUPLICATE_COLUMN,
            format!("column \"{name}\" specified more than once"),
        ),
        SchemaError::FieldNotFound { field, valid_fields } => {
            let Some(relation) = &field.relation else {
                let message = format!("column \"{}\" does not exist", field.name);
                return SqlError::new(SqlState::UNDEFINED_COLUMN, message);
            };
            let table = relation.table();
            let known_table = |c: &datafusion::common::Column| {
                c.relation.as_ref().is_some_and(|r| r.table() == table)
            };
            if !valid_fields.iter().any(known_table) {
                let message = format!("missing FROM-clause entry for table \"{table}\"");
                return SqlError::new(SqlState::UNDEFINED_TABLE, message);
            }
            let message = format!("column {table}.{} does not exist", field.name);
            SqlError::new(SqlState::UNDEFINED_COLUMN, message)
        }
    }
}

fn arrow(error: &ArrowError) -> SqlError {
    match error {
        ArrowError::DivideByZero => SqlError::new(SqlState::DIVISION_BY_ZERO, "division by zero"),
        ArrowError::ArithmeticOverflow(text) => overflow(text),
        ArrowError::CastError(text)
        | ArrowError::ParseError(text)
        | ArrowError::InvalidArgumentError(text)
        | ArrowError::ComputeError(text) => value(text),
        ArrowError::NotYetImplemented(text) => {
            SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, lowercase_first(first_line(text)))
        }
        ArrowError::ExternalError(source) => foreign(source.as_ref()),
        ArrowError::IoError(_, source) => io_error(source),
        ArrowError::MemoryError(text) => {
            SqlError::new(SqlState::OUT_OF_MEMORY, "out of memory").detail(first_line(text))
        }
        ArrowError::CsvError(text) | ArrowError::JsonError(text) => {
            SqlError::new(SqlState::BAD_COPY_FILE_FORMAT, lowercase_first(first_line(text)))
        }
        ArrowError::ParquetError(text) => {
            SqlError::new(SqlState::DATA_CORRUPTED, format!("could not read data file: {text}"))
        }
        ArrowError::OffsetOverflowError(_) => {
            SqlError::new(SqlState::PROGRAM_LIMIT_EXCEEDED, "values of a batch are too large")
        }
        ArrowError::SchemaError(text)
        | ArrowError::AvroError(text)
        | ArrowError::IpcError(text)
        | ArrowError::CDataInterface(text) => SqlError::internal(first_line(text)),
        ArrowError::DictionaryKeyOverflowError | ArrowError::RunEndIndexOverflowError => {
            SqlError::internal(error.to_string())
        }
    }
}

fn overflow(text: &str) -> SqlError {
    let what = after(text, "Overflow happened on: ").unwrap_or(text);
    SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, format!("value out of range: {what}"))
}

/// Maps an error of a value that cannot be converted or computed.
fn value(text: &str) -> SqlError {
    let text = first_line(text);
    if text.contains("ivide by zero") {
        return SqlError::new(SqlState::DIVISION_BY_ZERO, "division by zero");
    }
    if text.starts_with("Overflow happened on") {
        return overflow(text);
    }
    if let Some(literal) = between(text, "Cannot cast string '", "' to value of ")
        && let Some(target) = between(text, "' to value of ", " type")
    {
        return invalid_literal(literal, &pg_type(target));
    }
    if let Some(literal) = between(text, "Cannot cast value '", "' to value of Boolean") {
        return invalid_literal(literal, "boolean");
    }
    if let Some(target) = after(text, "Can't cast value ").and_then(|rest| after(rest, " to type "))
    {
        let message = format!("{} out of range", pg_type(target));
        return SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, message);
    }
    if let Some(literal) = between(text, "Error parsing timestamp from '", "': ") {
        return invalid_literal(literal, "timestamp");
    }
    if let Some(literal) = between(text, "Failed to parse '", "' as time") {
        return invalid_literal(literal, "time");
    }
    if let Some(literal) = between(text, "can't parse the string value ", " to decimal") {
        return invalid_literal(literal, "numeric");
    }
    let numeric_overflow = ["to store in a Decimal", "Cannot cast to Decimal", "decimal overflow"];
    if numeric_overflow.iter().any(|part| text.contains(part)) {
        return SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, "numeric field overflow");
    }
    if text.contains("nterval") {
        let message = format!("invalid input syntax for type interval: {text}");
        return SqlError::new(SqlState::INVALID_DATETIME_FORMAT, message);
    }
    if text.contains("regular expression") || text.contains("egex") {
        let message = format!("invalid regular expression: {text}");
        return SqlError::new(SqlState::INVALID_REGULAR_EXPRESSION, message);
    }
    if let Some((from, to)) =
        between(text, "Casting from ", " not supported").and_then(|types| types.split_once(" to "))
    {
        let message = format!("cannot cast type {} to {}", pg_type(from), pg_type(to));
        return SqlError::new(SqlState::CANNOT_COERCE, message);
    }
    if text.contains("out of range") || text.contains("verflow") {
        return SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, lowercase_first(text));
    }
    SqlError::new(SqlState::INVALID_TEXT_REPRESENTATION, lowercase_first(text))
}

fn invalid_literal(literal: &str, target: &str) -> SqlError {
    let temporal = ["date", "time", "timestamp", "interval"];
    if temporal.iter().any(|name| target.starts_with(name)) {
        let message = format!("invalid input syntax for type {target}: \"{literal}\"");
        return SqlError::new(SqlState::INVALID_DATETIME_FORMAT, message);
    }
    let digits = literal.trim().trim_start_matches(['+', '-']);
    let is_integer = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if is_integer && matches!(target, "smallint" | "integer" | "bigint") {
        let message = format!("value \"{literal}\" is out of range for type {target}");
        return SqlError::new(SqlState::NUMERIC_VALUE_OUT_OF_RANGE, message);
    }
    let message = format!("invalid input syntax for type {target}: \"{literal}\"");
    SqlError::new(SqlState::INVALID_TEXT_REPRESENTATION, message)
}

/// The analyzer reports arguments that no signature fits as internal errors.
fn internal(text: &str) -> SqlError {
    match undefined_function(text) {
        Some(error) => error,
        None => texts::planning(text).unwrap_or_else(|| SqlError::internal(first_line(text))),
    }
}

fn execution(text: &str) -> SqlError {
    if text.contains("more than one row") {
        let message = "more than one row returned by a subquery used as an expression";
        return SqlError::new(SqlState::CARDINALITY_VIOLATION, message);
    }
    if let Some(error) = undefined_function(text) {
        return error;
    }
    texts::planning(text).unwrap_or_else(|| value(text))
}

/// Subqueries that the optimizer could not turn into joins reach the physical planner, whose error prints
/// their internals.
fn not_implemented(text: &str) -> SqlError {
    let left_over = ["ScalarSubquery", "Exists", "InSubquery", "OuterReferenceColumn"];
    if left_over.iter().any(|kind| text.contains(&format!("logical expression {kind}"))) {
        return SqlError::unsupported("a subquery that depends in this way on the query around it")
            .hint("Write it as a join.");
    }
    texts::planning(text).unwrap_or_else(|| {
        SqlError::new(SqlState::FEATURE_NOT_SUPPORTED, lowercase_first(&texts::plain(text)))
    })
}

/// Maps a planning error. Order matters only where one text contains another.
fn plan(text: &str) -> SqlError {
    if let Some(table) = between(text, "table '", "' not found") {
        return undefined_table(table);
    }
    if let Some(name) = between(text, "table function '", "' not found") {
        return SqlError::undefined_function(name);
    }
    if let Some(error) = undefined_function(text) {
        return error;
    }
    if let Some(error) = undefined_operator(text) {
        return error;
    }
    if let Some(error) = grouping(text) {
        return error;
    }
    if let Some(error) = condition(text) {
        return error;
    }
    if text.to_lowercase().contains("select distinct, order by expressions") {
        let message = "for SELECT DISTINCT, ORDER BY expressions must appear in select list";
        return SqlError::new(SqlState::INVALID_COLUMN_REFERENCE, message);
    }
    if text.contains("SELECT DISTINCT ON expressions must match") {
        let message = "SELECT DISTINCT ON expressions must match initial ORDER BY expressions";
        return SqlError::new(SqlState::INVALID_COLUMN_REFERENCE, message);
    }
    if text.contains("should only return one column") {
        return SqlError::syntax("subquery must return only one column");
    }
    if text.contains("queries have different number of columns") {
        let operation = text.split_whitespace().next().unwrap_or("UNION");
        let message = format!("each {operation} query must have the same number of columns");
        return SqlError::syntax(message);
    }
    if text.contains("Inconsistent data length across values list") {
        return SqlError::syntax("VALUES lists must all be the same length");
    }
    if let Some(name) = between(text, "WITH query name \"", "\" specified more than once") {
        let message = format!("WITH query name \"{name}\" specified more than once");
        return SqlError::new(SqlState::DUPLICATE_ALIAS, message);
    }
    if text.contains("must be an INTEGER or NULL, got ") && text.contains("Column") {
        return SqlError::unsupported("a column as an argument of a function in FROM");
    }
    if text.contains("require unique expression names") {
        let message = "two columns of one subquery have the same name";
        return SqlError::new(SqlState::DUPLICATE_COLUMN, message)
            .hint("Give one of them another name with AS.");
    }
    if text.starts_with("Invalid placeholder") {
        return SqlError::new(SqlState::UNDEFINED_PARAMETER, lowercase_first(first_line(text)));
    }
    texts::planning(text).unwrap_or_else(|| SqlError::syntax(lowercase_first(&texts::plain(text))))
}

/// Maps a missing table. `name` is DataFusion's resolved name, whose implied parts the user did not write.
fn undefined_table(name: &str) -> SqlError {
    let mut parts: Vec<&str> = name.split('.').collect();
    if parts.len() == 3 {
        parts.remove(0);
    }
    let implied = [tidemark_ledger::catalog::PUBLIC, PATH_SCHEMA];
    if parts.len() == 2 && parts.first().is_some_and(|schema| implied.contains(schema)) {
        parts.remove(0);
    }
    let message = format!("relation \"{}\" does not exist", parts.join("."));
    SqlError::new(SqlState::UNDEFINED_TABLE, message)
}

fn undefined_function(text: &str) -> Option<SqlError> {
    let signature = if let Some(call) = between(text, "name and argument types '", "'. You might") {
        let (name, types) = call.split_once('(')?;
        format!("{name}({})", pg_types(types.trim_end_matches(')')))
    } else if let Some(name) =
        between(text, "Failed to coerce arguments to satisfy a call to '", "'")
    {
        let types = between(text, "coercion from ", " to the signature").unwrap_or_default();
        format!("{name}({})", pg_types(types))
    } else if let Some(signature) =
        between(text, "coercion failed with: Error during planning: function ", " does not exist")
    {
        signature.to_owned()
    } else if let Some(name) = between(text, "Invalid function '", "'") {
        name.to_owned()
    } else if text.contains("user-defined coercion failed")
        || text.contains("failed to match any signature")
        || text.contains("arguments but received")
        || text.contains("argument(s) but received")
    {
        between(text, "unction '", "'")?.to_owned()
    } else {
        return None;
    };
    if let Some(error) = texts::of_operator(&signature) {
        return Some(error);
    }
    Some(SqlError::undefined_function(signature))
}

fn undefined_operator(text: &str) -> Option<SqlError> {
    let operation = after(text, "Cannot coerce arithmetic expression ")
        .map(|rest| rest.strip_suffix(" to valid types").unwrap_or(rest))
        .or_else(|| {
            text.starts_with("Cannot infer common").then(|| after(text, " operation "))?
        })?;
    let (left, operator, right) = split_operation(first_line(operation))?;
    let (left, right) = (pg_type(left), pg_type(right));
    Some(SqlError::undefined_operator(format!("{left} {operator} {right}")))
}

/// Splits `Decimal128(38, 10) IS DISTINCT FROM Utf8` into its three parts.
fn split_operation(text: &str) -> Option<(&str, &str, &str)> {
    let words = top_level_split(text, ' ');
    let (first, last) = (words.first()?, words.last()?);
    if words.len() < 3 {
        return None;
    }
    Some((first, text[first.len()..text.len() - last.len()].trim(), last))
}

fn grouping(text: &str) -> Option<SqlError> {
    if text.contains("Aggregate functions are not allowed in the WHERE clause") {
        let message = "aggregate functions are not allowed in WHERE";
        return Some(SqlError::new(SqlState::GROUPING_ERROR, message));
    }
    if text.contains("grouping function is not in grouping columns") {
        let message =
            "arguments to GROUPING must be grouping expressions of the associated query level";
        return Some(SqlError::new(SqlState::GROUPING_ERROR, message));
    }
    let column = between(text, "While expanding wildcard, column \"", "\" must appear")
        .or_else(|| between(text, "HAVING clause references: ", " must appear"))?;
    let message = format!(
        "column \"{column}\" must appear in the GROUP BY clause or be used in an aggregate function"
    );
    Some(SqlError::new(SqlState::GROUPING_ERROR, message))
}

/// Maps the error of an expression that must be boolean.
fn condition(text: &str) -> Option<SqlError> {
    let (clause, found) = if text.contains("non-boolean predicate") {
        ("WHERE", after(text, " returning ")?)
    } else if text.contains("Unary operator 'NOT' requires") {
        ("NOT", after(text, ", got ")?)
    } else {
        return None;
    };
    let found = pg_type(first_line(found));
    let message = format!("argument of {clause} must be type boolean, not type {found}");
    Some(SqlError::new(SqlState::DATATYPE_MISMATCH, message))
}

/// Returns PostgreSQL's name of an Arrow type, given as Arrow prints it.
fn pg_type(arrow: &str) -> String {
    let arrow = arrow.trim();
    let name = match arrow.split(['(', ' ']).next().unwrap_or(arrow) {
        "Null" => "unknown",
        "Boolean" => "boolean",
        "Int8" | "Int16" | "UInt8" => "smallint",
        "Int32" | "UInt16" => "integer",
        "Int64" | "UInt32" => "bigint",
        "UInt64" | "Decimal32" | "Decimal64" | "Decimal128" | "Decimal256" => "numeric",
        "Float16" | "Float32" => "real",
        "Float64" => "double precision",
        "Utf8" | "LargeUtf8" | "Utf8View" => "text",
        "Binary" | "LargeBinary" | "BinaryView" | "FixedSizeBinary" => "bytea",
        "Date32" | "Date64" => "date",
        "Time32" | "Time64" => "time without time zone",
        "Timestamp" if arrow.contains('"') => "timestamp with time zone",
        "Timestamp" => "timestamp without time zone",
        "Interval" | "Duration" => "interval",
        "List" | "LargeList" | "FixedSizeList" | "ListView" => return array_of(arrow),
        "Struct" => "record",
        _ => arrow,
    };
    name.to_owned()
}

/// Returns PostgreSQL's name of an array type, given as Arrow prints it: `List(Int32)`.
fn array_of(list: &str) -> String {
    let inner = list.split_once('(').map(|(_, inner)| inner.strip_suffix(')').unwrap_or(inner));
    let element = inner.map(|inner| inner.trim_start_matches("non-null ").split(", field:").next());
    match element.flatten() {
        Some(element) => format!("{}[]", pg_type(element)),
        None => "array".to_owned(),
    }
}

fn pg_types(list: &str) -> String {
    let types = top_level_split(list, ',');
    types.into_iter().filter(|t| !t.trim().is_empty()).map(pg_type).collect::<Vec<_>>().join(", ")
}

/// Splits at each `separator` outside parentheses; drops empty parts.
fn top_level_split(text: &str, separator: char) -> Vec<&str> {
    let mut depth = 0usize;
    let parts = text.split(|c: char| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && c == separator
    });
    parts.filter(|part| !part.is_empty()).collect()
}

fn after<'a>(text: &'a str, mark: &str) -> Option<&'a str> {
    text.find(mark).map(|at| &text[at + mark.len()..])
}

/// Returns the text between the first `start` and the next `end`.
fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let rest = after(text, start)?;
    rest.find(end).map(|at| &rest[..at])
}

fn first_line(text: &str) -> &str {
    let line = text.lines().next().unwrap_or_default();
    line.trim_end_matches(['.', ' '])
}

/// Lowercases the first letter, as messages start in lower case; `UNION` and `$1` stay as they are.
fn lowercase_first(text: &str) -> String {
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(first), Some(second)) if first.is_uppercase() && second.is_lowercase() => {
            first.to_lowercase().chain(text.chars().skip(1)).collect()
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
