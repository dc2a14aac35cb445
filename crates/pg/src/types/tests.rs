//! Walks the table and checks that all translations agree.

use pgwire::api::Type;

use super::arrow::{name_of, storable_type};
use super::spelling::{column_type_named, parameter_type, sql_type, type_name};
use super::table::Values;
use super::wire::{WireType, column_type, pg_to_arrow};
use super::*;
use tidemark_ledger::catalog::ColumnType;

fn array(element: &ColumnType) -> ColumnType {
    ColumnType::Array(Box::new(element.clone()))
}

/// The types of columns, those with limits, and arrays of all of them.
fn columns() -> Vec<ColumnType> {
    let limited = [ColumnType::Varchar(Some(7)), ColumnType::Numeric(Some((15, 2)))];
    let scalars: Vec<_> = column_types().cloned().chain(limited).collect();
    scalars.iter().map(array).chain(scalars.iter().cloned()).collect()
}

#[test]
fn every_column_type_is_the_same_from_all_sides() {
    for ty in columns() {
        let reference = TypeRef::from(&ty);
        let shown = WireType::of(&ty.field("c", true));
        assert_eq!(reference.name(), ty.to_string());
        assert_eq!((shown.pg_type.oid(), shown.modifier), (reference.oid, reference.modifier));
        assert_eq!(shown.size, reference.pg_type().length);
        assert_eq!(storable_type(&ty.field("c", true)).unwrap(), ty);
        assert_eq!(column_type_named(&ty.to_string()).unwrap(), ty);
        assert_eq!(spelling::column_type(&sql_type(&ty)).unwrap(), ty);
        assert_eq!(by_name(&ty.to_string()), by_oid(reference.oid));
    }
}

#[test]
fn parameters_have_the_types_of_columns() {
    for ty in columns() {
        let shown = WireType::of(&ty.field("c", true)).pg_type;
        let read = column_type(&shown).unwrap();
        assert_eq!(TypeRef::from(&read).oid, shown.oid(), "{ty}");
        let arrow = pg_to_arrow(&shown).unwrap();
        assert_eq!(spelling::column_type(&parameter_type(&arrow)).unwrap().arrow_type(), {
            // Text parameters are varchars.
            let text = matches!(ty.scalar(), ColumnType::Jsonb);
            if text { WireType::of(&ty.field("c", true)).arrow_type } else { read.arrow_type() }
        });
    }
}

#[test]
fn every_name_of_a_type_leads_to_it() {
    for t in types() {
        // Without quotes, `char` is a `character(1)`.
        assert!(by_name(&t.name) == Some(t) || t.name == "char", "{}", t.name);
        assert_eq!(by_name(&t.sql_name), Some(t), "{}", t.sql_name);
        t.spellings.iter().chain(t.words).for_each(|name| assert_eq!(by_name(name), Some(t)));
    }
    for ty in column_types() {
        let parsed = parameter_type(&ty.arrow_type());
        let pg_type = PgType::of(ty);
        if ty.told_by_arrow() && *ty != ColumnType::Text {
            assert_eq!(type_name(&parsed), pg_type.name);
            assert_eq!(name_of(&ty.arrow_type(), None), pg_type.sql_name);
        }
    }
}

#[test]
fn array_types_and_element_types_point_at_each_other() {
    for array in types().filter(|t| t.is_array()) {
        let element = by_oid(array.element_oid).unwrap();
        assert_eq!(element.array_oid, array.oid, "{}", array.name);
    }
}

#[test]
fn types_with_values_are_those_of_pgwire() {
    for t in types().filter(|t| t.values != Values::Catalog) {
        assert_eq!(
            Type::from_oid(t.oid).map(|found| found.name().to_owned()),
            Some(t.name.clone())
        );
        let array = by_oid(t.array_oid).and_then(|array| Type::from_oid(array.oid));
        assert_eq!(array.is_some(), t.array_oid != 0, "{}", t.name);
    }
}
