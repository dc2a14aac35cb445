//! An in-memory object store that fails in every way in which a real one over a network, or a disk
//! below it, can.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _, stream};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMode, PutMultipartOptions, PutOptions,
    PutPayload, PutResult, Result,
};

use super::chaos::{Chaos, Fate, INJECTED};
use tidemark_ledger::ambient;

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

/// The process has ended: there is no response.
async fn never<T>() -> Result<T> {
    std::future::pending().await
}

impl FaultyObjects {
    /// Performs the deed after a random delay, even if the process that requested it has ended.
    fn later(&self, deed: impl Future<Output: Send> + Send + 'static) {
        let delay = Duration::from_millis(1_000 + self.chaos.below(40_000));
        tokio::spawn(async move {
            ambient::sleep(delay).await;
            drop(deed.await);
        });
    }

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
                self.later(async move { inner.delete(&path).await });
                injected()
            }
            Fate::CrashAfter => {
                drop(self.inner.delete(&path).await);
                never().await
            }
            Fate::CrashBefore => never().await,
            Fate::Before | Fate::Torn | Fate::Flip => injected(),
        }
    }

    /// Writes only the first part of an object.
    async fn tear(&self, path: &Path, payload: PutPayload, options: PutOptions) {
        let whole = Bytes::from(payload);
        let length = u64::try_from(whole.len()).expect("small");
        let cut = usize::try_from(self.chaos.below(length.max(1))).expect("small");
        drop(self.inner.put_opts(path, whole.slice(..cut).into(), options).await);
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
        match fate {
            Fate::Pass => self.inner.put_opts(path, payload, options).await,
            Fate::Retried if path.as_ref().ends_with(".json") => {
                let mode = options.mode.clone();
                self.inner.put_opts(path, payload, options).await?;
                came_second(path, &mode)
            }
            Fate::After | Fate::Retried => {
                self.inner.put_opts(path, payload, options).await?;
                injected()
            }
            Fate::Later => {
                let (inner, path) = (Arc::clone(&self.inner), path.clone());
                self.later(async move { inner.put_opts(&path, payload, options).await });
                injected()
            }
            Fate::Torn => {
                self.tear(path, payload, options).await;
                injected()
            }
            Fate::CrashAfter => {
                drop(self.inner.put_opts(path, payload, options).await);
                never().await
            }
            Fate::CrashBefore => never().await,
            Fate::Before | Fate::Flip => injected(),
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
            Fate::Flip => flipped(self.inner.get_opts(path, options).await?, &self.chaos).await,
            Fate::CrashBefore | Fate::CrashAfter => never().await,
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
                Fate::CrashBefore | Fate::CrashAfter => stream::pending().boxed(),
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
                self.later(async move { inner.copy_opts(&from, &to, options).await });
                injected()
            }
            Fate::CrashAfter => {
                drop(self.inner.copy_opts(from, to, options).await);
                never().await
            }
            Fate::CrashBefore => never().await,
            Fate::Before | Fate::Torn | Fate::Flip => injected(),
        }
    }
}

/// The same response with one flipped bit.
async fn flipped(read: GetResult, chaos: &Chaos) -> Result<GetResult> {
    let (meta, range, attributes) =
        (read.meta.clone(), read.range.clone(), read.attributes.clone());
    let mut bytes = read.bytes().await?.to_vec();
    let bits = u64::try_from(bytes.len()).expect("small") * 8;
    if bits > 0 {
        let bit = chaos.below(bits);
        bytes[usize::try_from(bit / 8).expect("small")] ^= 1 << (bit % 8);
    }
    let payload = GetResultPayload::Stream(stream::iter([Ok(Bytes::from(bytes))]).boxed());
    Ok(GetResult { payload, meta, range, attributes })
}
