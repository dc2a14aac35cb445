//! Functions defined by a closure over one row and the kinds of their arguments.

use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewBuilder, BooleanBuilder, Int64Builder, ListBuilder,
    StringViewBuilder,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::common::ScalarValue;
use datafusion::common::config::ConfigOptions;
use datafusion::error::Result as EngineResult;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use super::cast::print;
use crate::carried::{self, Carried};
use crate::encode::column_text;
use crate::error::SqlError;
use crate::{growth, text_input};
use tidemark_ledger::catalog::ColumnType;

/// A kind of argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arg {
    Text,
    Int,
    Bool,
    Bytes,
    /// `text[]`
    Texts,
    /// Any type; the closure only sees whether it is null.
    Any,
    /// Any type; the closure sees the text that a client would get.
    Printed,
    /// Any type; the closure sees the text that a cast would make.
    AsText,
}

/// The result for one row.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Text(String),
    Int(i64),
    Bool(bool),
    Bytes(Vec<u8>),
    Texts(Vec<Option<String>>),
}

impl Value {
    /// Bytes of the text or texts.
    fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            Self::Texts(texts) => texts.iter().flatten().map(String::len).sum(),
            Self::Null | Self::Int(_) | Self::Bool(_) => 0,
        }
    }
}

pub(super) type Answer = Result<Value, SqlError>;

type Body = Box<dyn Fn(&Row<'_>) -> Answer + Send + Sync>;

/// Argument lists with one result type.
struct Overloads {
    lists: &'static [&'static [Arg]],
    returns: ColumnType,
    body: Body,
}

/// A function that is evaluated one row at a time.
pub(super) struct Rowwise {
    name: &'static str,
    aliases: Vec<String>,
    /// What it accepts; the first that fits is called.
    overloads: Vec<Overloads>,
    signature: Signature,
    /// Whether a null argument makes the result null without a call.
    strict: bool,
    /// Whether the last argument may be repeated.
    variadic: bool,
}

impl Rowwise {
    pub(super) fn new(
        name: &'static str,
        overloads: &'static [&'static [Arg]],
        returns: ColumnType,
        body: impl Fn(&Row<'_>) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let signature = Signature::user_defined(Volatility::Immutable);
        let function = Self {
            name,
            aliases: vec![],
            overloads: vec![],
            signature,
            strict: true,
            variadic: false,
        };
        function.or(overloads, returns, body)
    }

    /// Accepts other arguments too, with another result.
    pub(super) fn or(
        mut self,
        lists: &'static [&'static [Arg]],
        returns: ColumnType,
        body: impl Fn(&Row<'_>) -> Answer + Send + Sync + 'static,
    ) -> Self {
        self.overloads.push(Overloads { lists, returns, body: Box::new(body) });
        self
    }

    /// Allows any number of the last argument.
    pub(super) fn variadic(mut self) -> Self {
        self.variadic = true;
        self
    }

    pub(super) fn aliases(mut self, aliases: &[&str]) -> Self {
        self.aliases = aliases.iter().map(|alias| (*alias).to_owned()).collect();
        self
    }

    /// Makes the function get calls with null arguments too.
    pub(super) fn called_on_null(mut self) -> Self {
        self.strict = false;
        self
    }

    /// Marks the result as constant only within one statement.
    pub(super) fn stable(mut self) -> Self {
        self.signature.volatility = Volatility::Stable;
        self
    }

    pub(super) fn udf(self) -> Arc<ScalarUDF> {
        Arc::new(ScalarUDF::from(self))
    }

    /// The overload that is called with these types, and its arguments.
    fn overload_for(&self, types: &[DataType]) -> Option<(&Overloads, Vec<Arg>)> {
        let fits = |list: &&'static [Arg]| {
            let args = self.repeated(list, types.len());
            (args.len() == types.len()
                && args.iter().zip(types).all(|(arg, found)| arg.takes(found)))
            .then_some(args)
        };
        self.overloads
            .iter()
            .find_map(|overloads| Some((overloads, overloads.lists.iter().find_map(fits)?)))
    }

    fn repeated(&self, list: &[Arg], count: usize) -> Vec<Arg> {
        let mut args = list.to_vec();
        if let Some(last) = list.last()
            && self.variadic
            && count > args.len()
        {
            args.resize(count, *last);
        }
        args
    }

    /// Calls the function for each row of the columns.
    fn rows(
        &self,
        overloads: &Overloads,
        columns: &[ArrayRef],
        rows: usize,
        options: &ConfigOptions,
    ) -> EngineResult<ArrayRef> {
        let mut values = Values::new(&overloads.returns);
        let mut made = growth::Made::new(self.name, options, rows);
        for at in 0..rows {
            let row = Row { columns, at, options };
            let skipped = self.strict && (0..columns.len()).any(|n| row.is_null(n));
            let value = if skipped { Value::Null } else { (overloads.body)(&row)? };
            made.add(value.bytes())?;
            values.push(value);
        }
        values.finish(&overloads.returns)
    }
}

impl Arg {
    fn takes(self, found: &DataType) -> bool {
        let is_null = *found == DataType::Null;
        match self {
            Self::Text => is_null || found.is_string(),
            Self::Int => is_null || found.is_integer(),
            Self::Bool => is_null || *found == DataType::Boolean,
            Self::Bytes => is_null || found.is_binary() || found.is_string(),
            Self::Texts => match found {
                DataType::List(element) => {
                    element.data_type().is_string() || element.data_type().is_null()
                }
                _ => is_null,
            },
            Self::Any | Self::Printed | Self::AsText => true,
        }
    }

    fn coerced(self, found: &DataType) -> DataType {
        match self {
            Self::Text => DataType::Utf8View,
            Self::Int => DataType::Int64,
            Self::Bool => DataType::Boolean,
            // Text can only be a literal here, which is read as `bytea`.
            Self::Bytes if found.is_string() => DataType::Utf8View,
            Self::Bytes => DataType::BinaryView,
            Self::Texts => ColumnType::Array(Box::new(ColumnType::Text)).arrow_type(),
            Self::Any | Self::Printed | Self::AsText => found.clone(),
        }
    }

    /// Whether a value with this field is accepted; `is_literal` if it is a constant.
    fn accepts(self, field: &Field, is_literal: bool) -> bool {
        match self {
            Self::Bytes => !field.data_type().is_string() || is_literal,
            _ => true,
        }
    }

    /// The column that the closure sees.
    fn shown(self, array: ArrayRef, field: &Field) -> EngineResult<ArrayRef> {
        match self {
            Self::Printed => Ok(cast(&column_text(field, &array)?, &DataType::Utf8View)?),
            Self::AsText => print(&array, field),
            _ => Ok(array),
        }
    }
}

/// The arguments of one row.
pub(super) struct Row<'a> {
    columns: &'a [ArrayRef],
    at: usize,
    options: &'a ConfigOptions,
}

impl<'a> Row<'a> {
    pub(super) fn is_null(&self, n: usize) -> bool {
        self.columns[n].data_type() == &DataType::Null || self.columns[n].is_null(self.at)
    }

    /// What the options of the plan carry.
    pub(super) fn carried<T: Carried>(&self) -> Option<&'a Arc<T>> {
        carried::get(self.options)
    }

    /// The number of arguments.
    pub(super) fn count(&self) -> usize {
        self.columns.len()
    }

    /// The n-th argument if it is a text and not null.
    pub(super) fn text(&self, n: usize) -> Option<&'a str> {
        let column = self.columns.get(n)?.as_string_view_opt()?;
        (!column.is_null(self.at)).then(|| column.value(self.at))
    }

    pub(super) fn int(&self, n: usize) -> Option<i64> {
        let column = self.columns.get(n)?.as_primitive_opt::<Int64Type>()?;
        (!column.is_null(self.at)).then(|| column.value(self.at))
    }

    pub(super) fn bool(&self, n: usize) -> Option<bool> {
        let column = self.columns.get(n)?.as_boolean_opt()?;
        (!column.is_null(self.at)).then(|| column.value(self.at))
    }

    /// The n-th argument as bytes; a text literal is parsed as `bytea`.
    pub(super) fn bytes(&self, n: usize) -> Result<Cow<'a, [u8]>, SqlError> {
        if let Some(literal) = self.text(n) {
            return Ok(Cow::Owned(text_input::bytea(literal)?));
        }
        let column = self.columns.get(n).and_then(|column| column.as_binary_view_opt());
        Ok(Cow::Borrowed(column.map_or(&[], |column| column.value(self.at))))
    }

    /// The n-th argument if it is a `text[]` and not null.
    pub(super) fn texts(&self, n: usize) -> Option<Vec<Option<String>>> {
        let column = self.columns.get(n)?.as_list_opt::<i32>()?;
        if column.is_null(self.at) {
            return None;
        }
        let elements = column.value(self.at);
        let elements = elements.as_string_view_opt()?;
        Some(elements.iter().map(|element| element.map(str::to_owned)).collect())
    }
}

impl ScalarUDFImpl for Rowwise {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> EngineResult<DataType> {
        match self.overload_for(types) {
            Some((overloads, _)) => Ok(overloads.returns.arrow_type()),
            None => Err(no_such_function(self.name, types).into()),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> EngineResult<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|f| f.data_type().clone()).collect();
        let found = self.overload_for(&types);
        let accepted = found.filter(|(_, list)| {
            let given = args.arg_fields.iter().zip(args.scalar_arguments);
            list.iter().zip(given).all(|(arg, (field, value))| arg.accepts(field, value.is_some()))
        });
        match accepted {
            Some((overloads, _)) => Ok(Arc::new(overloads.returns.field(self.name, true))),
            None => Err(no_such_function(self.name, &types).into()),
        }
    }

    fn coerce_types(&self, types: &[DataType]) -> EngineResult<Vec<DataType>> {
        match self.overload_for(types) {
            Some((_, args)) => {
                Ok(args.iter().zip(types).map(|(arg, found)| arg.coerced(found)).collect())
            }
            None => Err(no_such_function(self.name, types).into()),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> EngineResult<ColumnarValue> {
        let constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let types: Vec<DataType> = args.args.iter().map(ColumnarValue::data_type).collect();
        let Some((overloads, list)) = self.overload_for(&types) else {
            return Err(no_such_function(self.name, &types).into());
        };
        let shown = list.iter().zip(args.args.iter().zip(&args.arg_fields));
        let columns = shown
            .map(|(arg, (value, field))| arg.shown(value.to_array(rows)?, field))
            .collect::<EngineResult<Vec<_>>>()?;
        let array = self.rows(overloads, &columns, rows, &args.config_options)?;
        if constant {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?));
        }
        Ok(ColumnarValue::Array(array))
    }
}

/// The error for a call whose argument types match no overload (42883).
pub(super) fn no_such_function(name: &str, types: &[DataType]) -> SqlError {
    let types: Vec<String> =
        types.iter().map(|found| crate::types::arrow::name_of(found, None)).collect();
    SqlError::undefined_function(format!("{name}({})", types.join(", ")))
}

/// Builder of the result column.
enum Values {
    Text(StringViewBuilder),
    Int(Int64Builder),
    Bool(BooleanBuilder),
    Bytes(BinaryViewBuilder),
    Texts(ListBuilder<StringViewBuilder>),
}

impl Values {
    fn new(returns: &ColumnType) -> Self {
        match returns {
            ColumnType::Boolean => Self::Bool(BooleanBuilder::new()),
            ColumnType::SmallInt | ColumnType::Integer | ColumnType::BigInt => {
                Self::Int(Int64Builder::new())
            }
            ColumnType::Bytea => Self::Bytes(BinaryViewBuilder::new()),
            ColumnType::Array(_) => Self::Texts(texts()),
            _ => Self::Text(StringViewBuilder::new()),
        }
    }

    /// Appends a value; a value of another kind than the function returns becomes null.
    fn push(&mut self, value: Value) {
        match (self, value) {
            (Self::Text(builder), Value::Text(text)) => builder.append_value(text),
            (Self::Text(builder), _) => builder.append_null(),
            (Self::Int(builder), Value::Int(int)) => builder.append_value(int),
            (Self::Int(builder), _) => builder.append_null(),
            (Self::Bool(builder), Value::Bool(bool)) => builder.append_value(bool),
            (Self::Bool(builder), _) => builder.append_null(),
            (Self::Bytes(builder), Value::Bytes(bytes)) => builder.append_value(bytes),
            (Self::Bytes(builder), _) => builder.append_null(),
            (Self::Texts(builder), Value::Texts(texts)) => builder.append_value(texts),
            (Self::Texts(builder), _) => builder.append_null(),
        }
    }

    fn finish(self, returns: &ColumnType) -> EngineResult<ArrayRef> {
        let array: ArrayRef = match self {
            Self::Text(mut builder) => Arc::new(builder.finish()),
            Self::Int(mut builder) => Arc::new(builder.finish()),
            Self::Bool(mut builder) => Arc::new(builder.finish()),
            Self::Bytes(mut builder) => Arc::new(builder.finish()),
            Self::Texts(mut builder) => Arc::new(builder.finish()),
        };
        let wanted = returns.arrow_type();
        Ok(if array.data_type() == &wanted { array } else { cast(&array, &wanted)? })
    }
}

/// A builder of arrays of texts.
fn texts() -> ListBuilder<StringViewBuilder> {
    let element = Arc::new(Field::new_list_field(DataType::Utf8View, true));
    ListBuilder::new(StringViewBuilder::new()).with_field(element)
}

impl fmt::Debug for Rowwise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rowwise").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Functions of the same name are equal.
impl PartialEq for Rowwise {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Rowwise {}

impl Hash for Rowwise {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}
