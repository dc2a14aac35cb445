//! Builds JSON from values: `json_build_object`, `json_build_array`, `to_json` and their `jsonb` variants.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringViewArray};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::error::Result as EngineResult;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use crate::encode::column_text;
use crate::error::SqlError;
use crate::memory::Growing;
use crate::sqlstate::SqlState;
use crate::text_input::json::Json;
use crate::types::DeclaredType;
use tidemark_ledger::catalog::ColumnType;

/// Computes the result from the arguments of one row.
type Body = for<'a> fn(Vec<Json<'a>>) -> Result<Option<Json<'a>>, SqlError>;

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let both = |name, alias, arguments, body| {
        let signature = match arguments {
            Some(count) => Signature::any(count, Volatility::Stable),
            None => Signature::variadic_any(Volatility::Stable),
        };
        let aliases = vec![String::from(alias)];
        Arc::new(ScalarUDF::from(Build { name, aliases, signature, body }))
    };
    vec![
        both("jsonb_build_object", "json_build_object", None, object),
        both("jsonb_build_array", "json_build_array", None, |values| Ok(Some(Json::Array(values)))),
        both("to_jsonb", "to_json", Some(1), |values| {
            Ok(values.into_iter().next().filter(|value| *value != null()))
        }),
    ]
}

fn object(values: Vec<Json<'_>>) -> Result<Option<Json<'_>>, SqlError> {
    if values.len() % 2 == 1 {
        let message = "argument list must have even number of elements";
        return Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message));
    }
    let mut values = values.into_iter();
    let mut members = vec![];
    while let (Some(key), Some(value)) = (values.next(), values.next()) {
        let key = match key {
            Json::Text(key) => key,
            Json::Word(word) if word != "null" => word,
            _ => {
                let message = format!("argument {}: key must not be null", 2 * members.len() + 1);
                return Err(SqlError::new(SqlState::INVALID_PARAMETER_VALUE, message));
            }
        };
        members.push((key, value));
    }
    Ok(Some(Json::object(members)))
}

/// Converts the values of a column; SQL null becomes JSON null.
fn values(
    field: &Field,
    array: &ArrayRef,
    growing: &mut Growing,
) -> EngineResult<Vec<Json<'static>>> {
    if let DataType::List(element) = array.data_type() {
        let element = DeclaredType::of_elements(field, element);
        let lists = array.as_list::<i32>();
        let lists = lists.iter().map(|list| match list {
            Some(elements) => values(&element, &elements, growing).map(Json::Array),
            None => Ok(null()),
        });
        return lists.collect();
    }
    let texts = column_text(field, array)?;
    let declared = DeclaredType::of(field).and_then(DeclaredType::read_as);
    let is_jsonb = declared == Some(ColumnType::Jsonb);
    let read = |text: Option<&str>| match (text, array.data_type()) {
        (None, _) => Ok(null()),
        (Some(text), DataType::Boolean) => {
            Ok(Json::Word(if text == "t" { "true" } else { "false" }.into()))
        }
        (Some(text), number) if number.is_numeric() => Ok(match Json::parse(text) {
            Ok(number) => number.into_owned(),
            // NaN and the infinities become strings.
            Err(_) => Json::Text(text.to_owned().into()),
        }),
        (Some(text), DataType::Timestamp(_, zone)) => {
            let zone = if zone.is_some() { ":00" } else { "" };
            Ok(Json::Text(format!("{}{zone}", text.replacen(' ', "T", 1)).into()))
        }
        (Some(text), other) if other.is_string() && is_jsonb => {
            growing.add(text.len())?;
            Ok(Json::parse_counted(text, growing)?.into_owned())
        }
        (Some(text), _) => Ok(Json::Text(text.to_owned().into())),
    };
    texts.iter().map(read).collect()
}

fn null() -> Json<'static> {
    Json::Word("null".into())
}

struct Build {
    name: &'static str,
    aliases: Vec<String>,
    signature: Signature,
    body: Body,
}

impl ScalarUDFImpl for Build {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _types: &[DataType]) -> EngineResult<DataType> {
        Ok(ColumnType::Jsonb.arrow_type())
    }

    fn return_field_from_args(&self, _args: ReturnFieldArgs<'_>) -> EngineResult<FieldRef> {
        Ok(Arc::new(ColumnType::Jsonb.field(self.name, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> EngineResult<ColumnarValue> {
        let arguments = args.args.iter().zip(&args.arg_fields);
        let mut growing = Growing::new(self.name);
        let columns = arguments
            .map(|(arg, field)| values(field, &arg.to_array(args.number_rows)?, &mut growing));
        let mut columns =
            columns.map(|c| c.map(Vec::into_iter)).collect::<EngineResult<Vec<_>>>()?;
        let rows = (0..args.number_rows).map(|_| {
            let row = columns.iter_mut().filter_map(Iterator::next).collect();
            let json = (self.body)(row)?;
            Ok(json.map(|json| {
                let mut text = String::new();
                json.write(&mut text);
                text
            }))
        });
        let texts = rows.collect::<Result<StringViewArray, SqlError>>()?;
        Ok(ColumnarValue::Array(Arc::new(texts)))
    }
}

impl fmt::Debug for Build {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Build").field("name", &self.name).finish_non_exhaustive()
    }
}

impl PartialEq for Build {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Build {}

impl Hash for Build {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}
