//! Exact result size of a function for one row, where the upper bound is too coarse to refuse it.

use std::sync::Arc;

use datafusion::arrow::array::AsArray as _;
use datafusion::arrow::datatypes::{DataType, Field, Int64Type};
use datafusion::common::ScalarValue;
use datafusion::functions::regex::regexp_count;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};

use super::sizes::{Growth, split};

/// Returns the size in bytes of the result for the one row in `args`. `None` where the upper bound is exact.
pub fn bytes(growth: Growth, args: &ScalarFunctionArgs) -> Option<usize> {
    let text = |n: usize| args.args.get(n).and_then(text_of);
    let (first, second, third) = (text(0)?, text(1).unwrap_or_default(), text(2));
    match growth {
        Growth::Pad => {
            let fill = third.unwrap_or_else(|| " ".to_owned());
            let longest = fill.chars().map(char::len_utf8).max().unwrap_or(0);
            Some(padding(&args.args)?.saturating_mul(longest).saturating_add(first.len()))
        }
        Growth::Replace => {
            let made = matches(&first, &second).saturating_mul(third?.len());
            Some(first.len().saturating_add(made))
        }
        Growth::RegexpReplace => {
            let to = third?;
            let flags = text(3).unwrap_or_default();
            let matches = if flags.contains('g') { regexp_matches(args, &flags) } else { 1 };
            let references = to.matches(['\\', '$']).count();
            let referred = first.len().saturating_mul(references.saturating_add(1));
            Some(matches.saturating_mul(to.len()).saturating_add(referred))
        }
        Growth::Split => {
            let parts = if second.is_empty() { first.len() } else { matches(&first, &second) };
            Some(split(first.len(), parts.saturating_add(1)))
        }
        _ => None,
    }
}

fn text_of(value: &ColumnarValue) -> Option<String> {
    let array = value.to_array(1).ok()?;
    match ScalarValue::try_from_array(&array, 0).ok()? {
        ScalarValue::Utf8(text) | ScalarValue::Utf8View(text) | ScalarValue::LargeUtf8(text) => {
            text
        }
        _ => None,
    }
}

fn padding(args: &[ColumnarValue]) -> Option<usize> {
    let array = args.get(1)?.to_array(1).ok()?;
    usize::try_from(array.as_primitive_opt::<Int64Type>()?.value(0)).ok()
}

fn matches(text: &str, pattern: &str) -> usize {
    text.matches(pattern).count()
}

/// Counts the matches of a pattern; 0 if the pattern is invalid, which the function itself reports.
fn regexp_matches(args: &ScalarFunctionArgs, flags: &str) -> usize {
    let count = || {
        let value = |text: Option<String>| ColumnarValue::Scalar(ScalarValue::Utf8(text));
        let first = ColumnarValue::Scalar(ScalarValue::Int64(Some(1)));
        let flags = flags.replace('g', "");
        let (subject, pattern) = (text_of(args.args.first()?), text_of(args.args.get(1)?));
        let mut values = vec![value(subject), value(pattern), first];
        let mut types = vec![DataType::Utf8, DataType::Utf8, DataType::Int64];
        if !flags.is_empty() {
            values.push(value(Some(flags)));
            types.push(DataType::Utf8);
        }
        let counted = regexp_count().invoke_with_args(ScalarFunctionArgs {
            args: values,
            arg_fields: types.into_iter().map(|ty| Arc::new(Field::new("", ty, true))).collect(),
            number_rows: 1,
            return_field: Arc::new(Field::new("", DataType::Int64, true)),
            config_options: Arc::clone(&args.config_options),
        });
        let counted = counted.ok()?.to_array(1).ok()?;
        usize::try_from(counted.as_primitive_opt::<Int64Type>()?.value(0)).ok()
    };
    count().unwrap_or(0)
}
