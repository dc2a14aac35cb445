//! Values in a plan's options: the only way for a function to reach the statement that calls it.

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

use datafusion::common::config::{ConfigEntry, ConfigExtension, ConfigOptions, ExtensionOptions};
use datafusion::error::{DataFusionError, Result};

/// A value that options can carry, one of each type.
pub trait Carried: Debug + Send + Sync + 'static {
    /// Its name among the options: a second type with this name would replace it.
    const NAME: &'static str;
}

/// Makes plans with these options carry `value` instead of an earlier value of its type.
pub fn put<T: Carried>(options: &mut ConfigOptions, value: Arc<T>) {
    options.extensions.insert(InOptions(value));
}

/// The value of this type that the options carry.
pub fn get<T: Carried>(options: &ConfigOptions) -> Option<&Arc<T>> {
    options.extensions.get::<InOptions<T>>().map(|found| &found.0)
}

#[derive(Debug)]
struct InOptions<T>(Arc<T>);

impl<T: Carried> ConfigExtension for InOptions<T> {
    const PREFIX: &'static str = T::NAME;
}

impl<T: Carried> ExtensionOptions for InOptions<T> {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(Self(Arc::clone(&self.0)))
    }

    fn set(&mut self, key: &str, _value: &str) -> Result<()> {
        Err(DataFusionError::Configuration(format!("{key} cannot be set")))
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        vec![]
    }
}
