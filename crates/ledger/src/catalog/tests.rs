//! Tests that the catalog keeps old definitions and finds those alive at an epoch.

use std::sync::Arc;

use super::*;
use crate::epoch::Lifetime;
use crate::id::ColumnId;

fn epoch(n: u64) -> Epoch {
    Epoch::from_u64(n << 16)
}

fn table(id: u32, name: &str, column: &str, born: u64) -> Relation {
    Relation {
        id: ObjectId(id),
        schema_id: ObjectId(1),
        name: name.to_owned(),
        lifetime: Lifetime::since(epoch(born)),
        body: RelationBody::Table(Table {
            columns: vec![Column {
                id: ColumnId(1),
                name: column.to_owned(),
                column_type: ColumnType::Integer,
                not_null: false,
                default: None,
                backfill: None,
            }],
            primary_key: vec![],
            next_column_id: ColumnId(2),
        }),
    }
}

fn history() -> Arc<Catalog> {
    let public =
        Schema { id: ObjectId(1), name: PUBLIC.to_owned(), lifetime: Lifetime::since(epoch(1)) };
    let steps = [
        (1, CatalogChange::CreateSchema(public)),
        (2, CatalogChange::Define(table(7, "t", "a", 2))),
        (3, CatalogChange::Define(table(7, "t", "b", 3))),
        (4, CatalogChange::Define(table(7, "u", "b", 4))),
        (5, CatalogChange::DropRelation(ObjectId(7))),
        (6, CatalogChange::Define(table(8, "t", "c", 6))),
    ];
    let mut catalog = Catalog::default();
    for (at, change) in steps {
        catalog = catalog.apply(&change, epoch(at));
    }
    Arc::new(catalog)
}

fn column_of(catalog: &CatalogAt, name: &str) -> Option<String> {
    let relation = catalog.relation(PUBLIC, name)?;
    Some(relation.as_table()?.columns[0].name.clone())
}

#[test]
fn each_epoch_sees_the_definition_alive_then() {
    let catalog = history();
    let at = |n| catalog.at(epoch(n));
    assert_eq!(column_of(&at(1), "t"), None);
    assert_eq!(column_of(&at(2), "t").as_deref(), Some("a"));
    assert_eq!(column_of(&at(3), "t").as_deref(), Some("b"));
    assert_eq!(column_of(&at(4), "t"), None);
    assert_eq!(column_of(&at(4), "u").as_deref(), Some("b"));
    assert_eq!(column_of(&at(5), "u"), None);
    assert_eq!(column_of(&at(6), "t").as_deref(), Some("c"));
    assert_eq!(at(5).relations().count(), 0);
    assert_eq!(at(6).relations_in(ObjectId(1)).count(), 1);
}

#[test]
fn forgetting_drops_only_what_no_kept_epoch_sees() {
    let catalog = Arc::new(history().retain_since(epoch(4)));
    assert_eq!(column_of(&catalog.at(epoch(4)), "u").as_deref(), Some("b"));
    assert_eq!(column_of(&catalog.at(epoch(6)), "t").as_deref(), Some("c"));
    assert_eq!(catalog.all_relations().count(), 2);
}
