//! Rows of Parquet files, the form in which the Hugging Face Hub keeps data sets, as the values
//! that JSON lines of the same records would give.
//!
//! | Parquet | value |
//! |---|---|
//! | structures and maps | dictionaries |
//! | lists | lists |
//! | texts, and bytes that are UTF-8 | texts |
//! | dates, times and decimal numbers | texts |
//! | null | `None` |
//!
//! Not done here: what a record means.

use std::fs::File;

use parquet::errors::ParquetError;
use parquet::record::{Field, Row};
use ra3_parquet::Rows;
use ra3_sandbox::value::Value;

/// Hands on the rows of a file one by one: a data set is larger than what is kept of it.
pub(crate) fn each_row<E>(
    file: File,
    fail: impl Fn(ParquetError) -> E,
    take: &mut dyn FnMut(Value) -> Result<(), E>,
) -> Result<(), E> {
    let rows = Rows::open(file).map_err(&fail)?;
    let mut take = |row: Result<Row, ParquetError>| {
        let row = row.map_err(&fail)?;
        take(dictionary(row.into_columns()))
    };
    rows.each(None, &fail, &mut take)
}

fn dictionary(columns: Vec<(String, Field)>) -> Value {
    let pair = |(name, field)| (Value::Str(name), value(field));
    Value::Dict(columns.into_iter().map(pair).collect())
}

fn value(field: Field) -> Value {
    let integer = |digits: String| Value::Int(digits);
    match field {
        Field::Null => Value::None,
        Field::Bool(is_true) => Value::Bool(is_true),
        Field::Byte(number) => integer(number.to_string()),
        Field::Short(number) => integer(number.to_string()),
        Field::Int(number) => integer(number.to_string()),
        Field::Long(number) => integer(number.to_string()),
        Field::UByte(number) => integer(number.to_string()),
        Field::UShort(number) => integer(number.to_string()),
        Field::UInt(number) => integer(number.to_string()),
        Field::ULong(number) => integer(number.to_string()),
        Field::Float16(number) => Value::float(f64::from(f32::from(number))),
        Field::Float(number) => Value::float(f64::from(number)),
        Field::Double(number) => Value::float(number),
        Field::Str(text) => Value::Str(text),
        Field::Bytes(bytes) => match std::str::from_utf8(bytes.data()) {
            Ok(text) => Value::Str(text.to_owned()),
            Err(_) => Value::bytes(bytes.data()),
        },
        Field::Decimal(_)
        | Field::Date(_)
        | Field::TimeMillis(_)
        | Field::TimeMicros(_)
        | Field::TimestampMillis(_)
        | Field::TimestampMicros(_) => Value::Str(field.to_string()),
        Field::Group(row) => dictionary(row.into_columns()),
        Field::ListInternal(list) => {
            Value::List(list.elements().iter().cloned().map(value).collect())
        }
        Field::MapInternal(map) => {
            let pair = |(key, field): &(Field, Field)| (value(key.clone()), value(field.clone()));
            Value::Dict(map.entries().iter().map(pair).collect())
        }
    }
}
