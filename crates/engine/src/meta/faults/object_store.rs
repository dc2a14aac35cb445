//! An object store with faults like those over a network: a request may arrive after its caller has
//! timed out, and a client that retries on its own may conflict with its first request.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _, stream};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt as _, PutMode, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result,
};

use super::{Chaos, Fate, INJECTED};

/// An in-memory object store behind faults.
#[derive(Clone, Debug)]
pub struct FaultyObjects {
    pub inner: Arc<InMemory>,
    pub chaos: Arc<Chaos>,
}

impl fmt::Display for FaultyObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaultyObjects")
    }
}

fn injected<T>() -> Result<T> {
    Err(Error::Generic { store: "memory", source: INJECTED.into() })
}

/// The error that the second of two equal requests gets.
fn came_second<T>(path: &Path, mode: &PutMode) -> Result<T> {
    let (path, source) = (path.to_string(), INJECTED.into());
    Err(match mode {
        PutMode::Create => Error::AlreadyExists { path, source },
        _ => Error::Precondition { path, source },
    })
}

impl FaultyObjects {
    async fn delete_one(&self, path: Path) -> Result<Path> {
        let mut fate = self.chaos.turn("delete", path.as_ref()).await;
        // A deleted copy of a data file may be written again under the same name, and no store tells
        // the two apart. The cluster would not survive a late delete, so it is not injected here.
        if fate == Fate::Later && path.as_ref().contains("/data/") {
            fate = Fate::Before;
        }
        match fate {
            Fate::Pass => self.inner.delete(&path).await.map(|()| path),
            Fate::After | Fate::Retried => {
                self.inner.delete(&path).await?;
                injected()
            }
            Fate::Later => {
                let inner = Arc::clone(&self.inner);
                self.chaos.later(Box::pin(async move {
                    drop(inner.delete(&path).await);
                }));
                injected()
            }
            Fate::Before | Fate::Hang { .. } | Fate::Lie => injected(),
        }
    }

    fn put_later(&self, path: &Path, payload: PutPayload, options: PutOptions) {
        let (inner, path) = (Arc::clone(&self.inner), path.clone());
        self.chaos.later(Box::pin(async move {
            drop(inner.put_opts(&path, payload, options).await);
        }));
    }
}

#[async_trait]
impl ObjectStore for FaultyObjects {
    async fn put_opts(
        &self,
        path: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let fate = self.chaos.turn("put", path.as_ref()).await;
        let swaps = path.as_ref().ends_with(".json");
        match fate {
            Fate::Pass => self.inner.put_opts(path, payload, options).await,
            Fate::Retried if swaps => {
                let mode = options.mode.clone();
                self.inner.put_opts(path, payload, options).await?;
                came_second(path, &mode)
            }
            Fate::After | Fate::Retried => {
                self.inner.put_opts(path, payload, options).await?;
                injected()
            }
            Fate::Later => {
                self.put_later(path, payload, options);
                injected()
            }
            Fate::Hang { later } => {
                if later {
                    self.put_later(path, payload, options);
                }
                self.chaos.hang().await
            }
            Fate::Before | Fate::Lie => injected(),
        }
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        match self.chaos.turn("get", path.as_ref()).await {
            Fate::Pass => self.inner.get_opts(path, options).await,
            Fate::Hang { .. } => self.chaos.hang().await,
            _ => injected(),
        }
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let deleted = paths.then(move |path| {
            let store = store.clone();
            async move { store.delete_one(path?).await }
        });
        deleted.boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, prefix) = (self.clone(), prefix.cloned());
        let listed = async move {
            let subject = prefix.as_ref().map(ToString::to_string).unwrap_or_default();
            match store.chaos.turn("list", &subject).await {
                Fate::Pass => store.inner.list(prefix.as_ref()),
                // A listing comes in pages, and any of them may fail.
                _ => {
                    let page = store.inner.list(prefix.as_ref()).take(1);
                    page.chain(stream::iter([injected()])).boxed()
                }
            }
        };
        listed.flatten_stream().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        match self.chaos.turn("copy", to.as_ref()).await {
            Fate::Pass => self.inner.copy_opts(from, to, options).await,
            Fate::After | Fate::Retried => {
                self.inner.copy_opts(from, to, options).await?;
                injected()
            }
            Fate::Later => {
                let (inner, from, to) = (Arc::clone(&self.inner), from.clone(), to.clone());
                self.chaos.later(Box::pin(async move {
                    drop(inner.copy_opts(&from, &to, options).await);
                }));
                injected()
            }
            Fate::Before | Fate::Hang { .. } | Fate::Lie => injected(),
        }
    }
}
