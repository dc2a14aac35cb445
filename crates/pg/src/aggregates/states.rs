//! Accumulators around a small state per group.

use std::fmt;
use std::mem::size_of;
use std::sync::Arc;

use datafusion::arrow::array::{Array as _, ArrayRef, BooleanArray};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};

/// What an aggregate knows of the rows of a group.
pub trait State: Clone + fmt::Debug + Default + Send + Sync + 'static {
    /// The columns of a batch in the form in which rows are added.
    type Columns;

    /// The Arrow types of a saved state.
    fn saved_types() -> Vec<DataType>;

    fn columns(values: &[ArrayRef]) -> Result<Self::Columns>;

    /// Adds a row; rows with nulls change nothing.
    fn add(&mut self, columns: &Self::Columns, row: usize) -> Result<()>;

    /// Removes a row that was added. Called only for states that are exact.
    fn remove(&mut self, columns: &Self::Columns, row: usize) -> Result<()>;

    fn merge(&mut self, other: &Self) -> Result<()>;

    fn save(&self) -> Vec<ScalarValue>;

    fn load(saved: &[ArrayRef], row: usize) -> Result<Self>;
}

/// Computes the result from a state.
pub trait Finish<S>: Clone + fmt::Debug + Send + Sync + 'static {
    fn finish(&self, state: &S) -> Result<ScalarValue>;
}

pub fn state_fields(name: &str, types: impl IntoIterator<Item = DataType>) -> Vec<FieldRef> {
    let named = types.into_iter().enumerate();
    named.map(|(at, data_type)| state_field(name, at, data_type)).collect()
}

fn state_field(name: &str, at: usize, data_type: DataType) -> FieldRef {
    Arc::new(Field::new(format!("{name}[state {at}]"), data_type, true))
}

/// The accumulator of one group.
#[derive(Debug)]
pub struct OfOne<S, F> {
    state: S,
    finish: F,
    exact: bool,
}

impl<S: State, F: Finish<S>> OfOne<S, F> {
    /// `exact`: whether rows can be removed from the state without a trace.
    pub fn new(finish: F, exact: bool) -> Self {
        Self { state: S::default(), finish, exact }
    }
}

impl<S: State, F: Finish<S>> Accumulator for OfOne<S, F> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let columns = S::columns(values)?;
        let rows = values.first().map_or(0, |values| values.len());
        (0..rows).try_for_each(|row| self.state.add(&columns, row))
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.finish.finish(&self.state)
    }

    fn size(&self) -> usize {
        size_of::<Self>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(self.state.save())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let rows = states.first().map_or(0, |states| states.len());
        (0..rows).try_for_each(|row| self.state.merge(&S::load(states, row)?))
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let columns = S::columns(values)?;
        let rows = values.first().map_or(0, |values| values.len());
        (0..rows).try_for_each(|row| self.state.remove(&columns, row))
    }

    fn supports_retract_batch(&self) -> bool {
        self.exact
    }
}

/// The accumulator of many groups.
#[derive(Debug)]
pub struct OfGroups<S, F> {
    states: Vec<S>,
    finish: F,
}

impl<S: State, F: Finish<S>> OfGroups<S, F> {
    pub fn new(finish: F) -> Self {
        Self { states: vec![], finish }
    }

    fn emit(&mut self, emit_to: EmitTo) -> Vec<S> {
        emit_to.take_needed(&mut self.states)
    }
}

/// Whether a filter lets a row pass.
pub fn passes(filter: Option<&BooleanArray>, row: usize) -> bool {
    filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row))
}

fn saved_columns<S: State>(states: &[S]) -> Result<Vec<ArrayRef>> {
    let types = S::saved_types();
    let mut columns: Vec<Vec<ScalarValue>> = vec![Vec::with_capacity(states.len()); types.len()];
    for state in states {
        columns.iter_mut().zip(state.save()).for_each(|(column, value)| column.push(value));
    }
    let columns = columns.into_iter().zip(types);
    columns.map(|(column, data_type)| to_array(column, &data_type)).collect()
}

fn to_array(values: Vec<ScalarValue>, data_type: &DataType) -> Result<ArrayRef> {
    if values.is_empty() {
        return Ok(datafusion::arrow::array::new_empty_array(data_type));
    }
    ScalarValue::iter_to_array(values)
}

impl<S: State, F: Finish<S>> GroupsAccumulator for OfGroups<S, F> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        filter: Option<&BooleanArray>,
        groups: usize,
    ) -> Result<()> {
        self.states.resize(groups, S::default());
        let columns = S::columns(values)?;
        for (row, &group) in group_indices.iter().enumerate() {
            if passes(filter, row) {
                self.states[group].add(&columns, row)?;
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let states = self.emit(emit_to);
        let empty = self.finish.finish(&S::default())?.data_type();
        let results = states.iter().map(|state| self.finish.finish(state));
        to_array(results.collect::<Result<_>>()?, &empty)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        saved_columns(&self.emit(emit_to))
    }

    fn merge_batch(
        &mut self,
        states: &[ArrayRef],
        group_indices: &[usize],
        groups: usize,
    ) -> Result<()> {
        self.states.resize(groups, S::default());
        for (row, &group) in group_indices.iter().enumerate() {
            self.states[group].merge(&S::load(states, row)?)?;
        }
        Ok(())
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let columns = S::columns(values)?;
        let rows = values.first().map_or(0, |values| values.len());
        let mut states = vec![S::default(); rows];
        for (row, state) in states.iter_mut().enumerate() {
            if passes(filter, row) {
                state.add(&columns, row)?;
            }
        }
        saved_columns(&states)
    }

    fn size(&self) -> usize {
        self.states.capacity() * size_of::<S>()
    }
}
