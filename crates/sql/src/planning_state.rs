//! A pool of planning states: copying one copies some hundred functions and rules.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::catalog::{CatalogProviderList, MemoryCatalogProviderList};
use datafusion::execution::TaskContext;
use datafusion::execution::context::SessionState;

/// Maximum number of unused states.
const FREE_MAX: usize = 64;

/// DataFusion's state of one statement: functions and rules, which are the same for all, and options and
/// relations, which are its own.
pub struct PlanningState {
    /// Empty only while it is dropped.
    state: Option<SessionState>,
    from: Arc<dyn PlanningStates>,
}

/// Where states come from. A trait, so that the compiler need not prove for every future that holds an engine,
/// for seconds each time, that all of a state is `Send`.
trait PlanningStates: Send + Sync {
    fn take(&self) -> SessionState;

    fn put_back(&self, state: SessionState);
}

/// Copies of `base`.
struct Copies {
    base: SessionState,
    no_relations: Arc<dyn CatalogProviderList>,
    free: Mutex<Vec<SessionState>>,
}

impl PlanningStates for Copies {
    fn take(&self) -> SessionState {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        free.unwrap_or_else(|| self.base.clone())
    }

    fn put_back(&self, mut state: SessionState) {
        *state.config_mut() = self.base.config().clone();
        // They hold the options too, and with them what the statement pins and counts.
        *state.execution_props_mut() = self.base.execution_props().clone();
        state.register_catalog_list(Arc::clone(&self.no_relations));
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < FREE_MAX {
            free.push(state);
        }
    }
}

/// The pool.
pub struct StatePool(Arc<dyn PlanningStates>);

impl StatePool {
    pub fn new(mut base: SessionState) -> Self {
        let no_relations: Arc<dyn CatalogProviderList> = Arc::new(MemoryCatalogProviderList::new());
        base.register_catalog_list(Arc::clone(&no_relations));
        Self(Arc::new(Copies { base, no_relations, free: Mutex::default() }))
    }

    /// A state with the options and without the relations of a statement.
    pub fn take(&self) -> PlanningState {
        PlanningState { state: Some(self.0.take()), from: Arc::clone(&self.0) }
    }
}

impl PlanningState {
    /// The context in which plans of this state run. It knows no functions: plans hold those they call.
    pub fn task_context(&self) -> TaskContext {
        TaskContext::new(
            None,
            self.session_id().to_owned(),
            self.config().clone(),
            HashMap::new(),
            HashMap::new(),
            HashMap::new(),
            HashMap::new(),
            Arc::clone(self.runtime_env()),
        )
    }
}

impl Deref for PlanningState {
    type Target = SessionState;

    fn deref(&self) -> &SessionState {
        self.state.as_ref().expect("a state is held until it is dropped")
    }
}

impl DerefMut for PlanningState {
    fn deref_mut(&mut self) -> &mut SessionState {
        self.state.as_mut().expect("a state is held until it is dropped")
    }
}

impl Drop for PlanningState {
    fn drop(&mut self) {
        if let Some(state) = self.state.take() {
            self.from.put_back(state);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;

    use datafusion::execution::session_state::SessionStateBuilder;

    use super::*;
    use tidemark_pg::carried::{self, Carried};

    #[derive(Debug)]
    struct Value;

    impl Carried for Value {
        const NAME: &'static str = "value";
    }

    /// A state whose options carry a value, as in a statement.
    fn taken(pool: &StatePool) -> (PlanningState, Weak<Value>) {
        let value = Arc::new(Value);
        let weak = Arc::downgrade(&value);
        let mut state = pool.take();
        carried::put(state.config_mut().options_mut(), value);
        state.mark_start_execution();
        (state, weak)
    }

    #[test]
    fn a_state_in_the_pool_keeps_nothing_of_its_statement() {
        let pool = StatePool::new(SessionStateBuilder::new().build());
        let used = [taken(&pool), taken(&pool)];
        let values = used.map(|(state, value)| {
            assert!(value.upgrade().is_some());
            drop(state);
            value
        });
        assert!(values.iter().all(|value| value.upgrade().is_none()));
        assert!(carried::get::<Value>(pool.take().config_options()).is_none());
    }
}
