//! Values on their way to PostgreSQL and back. The rest of the store speaks of integers, texts, bytes
//! and nothing (`crate::store::sql`); here they become the type that a parameter or a column has.

use std::error::Error;

use bytes::{BufMut, BytesMut};
use rusqlite::types::{FromSql as FromValue, FromSqlError, ToSqlOutput, Value, ValueRef};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use crate::store::sql;

type Failed = Box<dyn Error + Sync + Send>;

/// A parameter, as rusqlite's `ToSql` gave it.
#[derive(Debug)]
pub struct Bound(pub Value);

impl Bound {
    /// The value of a parameter.
    pub fn of(value: &dyn rusqlite::ToSql) -> rusqlite::Result<Self> {
        match value.to_sql()? {
            ToSqlOutput::Owned(value) => Ok(Self(value)),
            ToSqlOutput::Borrowed(value) => Ok(Self(value.try_into()?)),
            other => Err(rusqlite::Error::ToSqlConversionFailure(
                format!("no value for PostgreSQL: {other:?}").into(),
            )),
        }
    }
}

impl ToSql for Bound {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, Failed> {
        match &self.0 {
            Value::Null => return Ok(IsNull::Yes),
            Value::Integer(number) => put_integer(*number, kind, out)?,
            Value::Real(number) if *kind == Type::FLOAT8 => out.put_f64(*number),
            Value::Text(text) if is_text(kind) => {
                // PostgreSQL's text has no NUL; clean-up removes it from what customers write.
                match text.contains('\0') {
                    true => out.put_slice(text.replace('\0', "\u{fffd}").as_bytes()),
                    false => out.put_slice(text.as_bytes()),
                }
            }
            Value::Blob(bytes) if *kind == Type::BYTEA => out.put_slice(bytes),
            value => return Err(format!("{} for a {kind}", value.data_type()).into()),
        }
        Ok(IsNull::No)
    }

    fn accepts(_kind: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

fn put_integer(number: i64, kind: &Type, out: &mut BytesMut) -> Result<(), Failed> {
    match *kind {
        Type::INT8 => out.put_i64(number),
        Type::INT4 => out.put_i32(i32::try_from(number)?),
        Type::INT2 => out.put_i16(i16::try_from(number)?),
        Type::BOOL => out.put_u8(u8::from(number != 0)),
        _ => return Err(format!("an integer for a {kind}").into()),
    }
    Ok(())
}

fn is_text(kind: &Type) -> bool {
    [Type::TEXT, Type::VARCHAR, Type::NAME, Type::BPCHAR].contains(kind)
}

/// A column's bytes with their type.
struct Column<'a>(ValueRef<'a>);

impl<'a> FromSql<'a> for Column<'a> {
    fn from_sql(kind: &Type, raw: &'a [u8]) -> Result<Self, Failed> {
        let value = match *kind {
            Type::INT8 => ValueRef::Integer(i64::from_be_bytes(raw.try_into()?)),
            Type::INT4 => ValueRef::Integer(i32::from_be_bytes(raw.try_into()?).into()),
            Type::INT2 => ValueRef::Integer(i16::from_be_bytes(raw.try_into()?).into()),
            Type::BOOL => ValueRef::Integer(i64::from(raw != [0])),
            Type::FLOAT8 => ValueRef::Real(f64::from_be_bytes(raw.try_into()?)),
            Type::BYTEA => ValueRef::Blob(raw),
            _ if is_text(kind) => ValueRef::Text(raw),
            _ => return Err(format!("no value of a {kind}").into()),
        };
        Ok(Self(value))
    }

    fn from_sql_null(_kind: &Type) -> Result<Self, Failed> {
        Ok(Self(ValueRef::Null))
    }

    fn accepts(_kind: &Type) -> bool {
        true
    }
}

/// What a column of a row has.
pub fn column<T: FromValue>(row: &tokio_postgres::Row, column: usize) -> sql::Result<T> {
    let value: Column<'_> = row.try_get(column)?;
    value
        .get()
        .map_err(|error| sql::Error::Column { column, error })
}

impl Column<'_> {
    fn get<T: FromValue>(&self) -> Result<T, FromSqlError> {
        T::column_result(self.0)
    }
}
