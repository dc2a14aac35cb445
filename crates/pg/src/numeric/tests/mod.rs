//! Tests of numeric values; `differential` compares with a live PostgreSQL.

mod bytes;
mod differential;
mod operands;
mod rules;
