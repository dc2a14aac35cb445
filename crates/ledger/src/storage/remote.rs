//! Stores over the network: how they are reached, and how large objects go there.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::client::SpawnedReqwestConnector;
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientConfigKey, ObjectStore, ObjectStoreExt as _, PutMode, PutPayload, Result,
    RetryConfig, WriteMultipart,
};

use percent_encoding::percent_decode_str;
use tokio::runtime::Handle;

use crate::crash_point;

/// Where an S3 of one's own is, for `s3://`; as RisingWave has it.
const ENDPOINT_VARIABLE: &str = "RW_S3_ENDPOINT";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For all tries of one request, at least.
const RETRY_TIMEOUT: Duration = Duration::from_secs(100);

/// How patient this process is with stores over the network, from when it is set.
static PATIENCE: OnceLock<RemotePatience> = OnceLock::new();

/// How long one try of a request may take, and how many more there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemotePatience {
    pub attempt: Duration,
    pub retries: usize,
}

impl Default for RemotePatience {
    fn default() -> Self {
        Self { attempt: Duration::from_secs(30), retries: 5 }
    }
}

impl RemotePatience {
    /// Makes this the patience of the process. Only the first call counts.
    pub fn set(self) {
        PATIENCE.get_or_init(|| self);
    }

    fn get() -> Self {
        PATIENCE.get().copied().unwrap_or_default()
    }
}

/// An object that grows beyond this goes in parts of this size.
const PART_BYTES: usize = 8 << 20;
const PARTS_AT_ONCE: usize = 4;

/// A bucket of S3, or of a server at the endpoint that the environment names.
pub fn s3(bucket: &str) -> Result<Arc<dyn ObjectStore>> {
    let mut builder = AmazonS3Builder::from_env().with_retry(retry()).with_bucket_name(bucket);
    for (key, value) in timeouts() {
        builder = builder.with_config(AmazonS3ConfigKey::Client(key), value);
    }
    if let Some(endpoint) = endpoint()? {
        let plain = endpoint.starts_with("http://");
        builder = builder.with_endpoint(endpoint).with_allow_http(plain);
    }
    if let Some(connector) = connector() {
        builder = builder.with_http_connector(connector);
    }
    Ok(Arc::new(builder.build()?))
}

/// A bucket of an S3-compatible server without TLS.
pub fn minio(key: &str, secret: &str, host: &str, bucket: &str) -> Result<Arc<dyn ObjectStore>> {
    // Credentials may be written as in any URL, `%2F` for a slash.
    let decoded = |text| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let mut builder = AmazonS3Builder::new()
        .with_retry(retry())
        .with_bucket_name(bucket)
        .with_endpoint(format!("http://{host}"))
        .with_allow_http(true)
        .with_access_key_id(decoded(key))
        .with_secret_access_key(decoded(secret));
    for (key, value) in timeouts() {
        builder = builder.with_config(AmazonS3ConfigKey::Client(key), value);
    }
    if let Some(connector) = connector() {
        builder = builder.with_http_connector(connector);
    }
    Ok(Arc::new(builder.build()?))
}

pub fn gcs(bucket: &str) -> Result<Arc<dyn ObjectStore>> {
    let mut builder =
        GoogleCloudStorageBuilder::from_env().with_retry(retry()).with_bucket_name(bucket);
    for (key, value) in timeouts() {
        builder = builder.with_config(GoogleConfigKey::Client(key), value);
    }
    if let Some(connector) = connector() {
        builder = builder.with_http_connector(connector);
    }
    Ok(Arc::new(builder.build()?))
}

pub fn azblob(container: &str) -> Result<Arc<dyn ObjectStore>> {
    let mut builder =
        MicrosoftAzureBuilder::from_env().with_retry(retry()).with_container_name(container);
    for (key, value) in timeouts() {
        builder = builder.with_config(AzureConfigKey::Client(key), value);
    }
    if let Some(connector) = connector() {
        builder = builder.with_http_connector(connector);
    }
    Ok(Arc::new(builder.build()?))
}

/// Requests run where the store was opened: threads of statements may be busy for long.
fn connector() -> Option<SpawnedReqwestConnector> {
    Handle::try_current().ok().map(SpawnedReqwestConnector::new)
}

/// One by one: options given together would take the place of those of the environment, such as a proxy
/// or that plain HTTP is allowed.
fn timeouts() -> [(ClientConfigKey, String); 2] {
    let attempt = RemotePatience::get().attempt;
    let ms = |timeout: Duration| format!("{}ms", timeout.as_millis());
    [
        (ClientConfigKey::ConnectTimeout, ms(CONNECT_TIMEOUT.min(attempt))),
        (ClientConfigKey::Timeout, ms(attempt)),
    ]
}

fn retry() -> RetryConfig {
    let RemotePatience { attempt, retries } = RemotePatience::get();
    let all = attempt.saturating_mul(u32::try_from(retries).unwrap_or(u32::MAX).saturating_add(1));
    RetryConfig {
        backoff: BackoffConfig::default(),
        max_retries: retries,
        // What was asked for bounds it already; pauses between the tries come on top.
        retry_timeout: all.max(RETRY_TIMEOUT),
    }
}

fn endpoint() -> Result<Option<String>> {
    let given = std::env::var(ENDPOINT_VARIABLE).unwrap_or_default();
    let given = given.trim();
    if given.is_empty() {
        return Ok(None);
    }
    let full = if given.contains("://") { given.to_owned() } else { format!("http://{given}") };
    let has_host = url::Url::parse(&full).is_ok_and(|url| url.host().is_some());
    match has_host && (full.starts_with("http://") || full.starts_with("https://")) {
        true => Ok(Some(full)),
        false => Err(object_store::Error::Generic {
            store: "S3",
            source: format!("{ENDPOINT_VARIABLE} names no server: it is to be http://host:port")
                .into(),
        }),
    }
}

/// An object on its way to a store. It exists once it is finished.
#[derive(Debug)]
pub struct Upload {
    store: Arc<dyn ObjectStore>,
    path: Path,
    /// Whether the answer to a request that was done can be lost on the way.
    far: bool,
    /// Whether it takes the place of an object that is there.
    over: bool,
    /// What does not make a part yet.
    buffer: BytesMut,
    parts: Option<WriteMultipart>,
}

impl Upload {
    pub fn new(store: Arc<dyn ObjectStore>, path: Path, far: bool, over: bool) -> Self {
        Self { store, path, far, over, buffer: BytesMut::new(), parts: None }
    }

    pub async fn write(&mut self, bytes: Bytes) -> Result<()> {
        if let Some(parts) = &mut self.parts {
            parts.wait_for_capacity(PARTS_AT_ONCE).await?;
            parts.put(bytes);
            return Ok(());
        }
        self.buffer.extend_from_slice(&bytes);
        if self.buffer.len() >= PART_BYTES {
            let upload = self.store.put_multipart(&self.path).await?;
            let mut parts = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
            parts.put(self.buffer.split().freeze());
            self.parts = Some(parts);
        }
        Ok(())
    }

    /// Makes the object appear. One that is there already stays, where the store can tell: an object
    /// in parts takes its place, which is why no name is ever used twice.
    pub async fn finish(mut self) -> Result<()> {
        if let Some(parts) = &mut self.parts {
            // While they are still here, a part that fails ends the upload.
            parts.wait_for_capacity(1).await?;
        }
        if let Some(parts) = self.parts.take() {
            let point = crash_point::begin("finish the parts of", &self.path);
            parts.finish().await?;
            point.end();
            return Ok(());
        }
        let bytes = self.buffer.split().freeze();
        let payload = PutPayload::from(bytes.clone());
        let point = crash_point::begin("put", &self.path);
        let mode = if self.over { PutMode::Overwrite } else { PutMode::Create };
        match self.store.put_opts(&self.path, payload, mode.into()).await {
            Ok(_) => {}
            // The answer to a first try may have been lost: then the object is ours.
            Err(error @ object_store::Error::AlreadyExists { .. }) if self.far => {
                let found = self.store.get(&self.path).await?.bytes().await?;
                if found != bytes || bytes.is_empty() {
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
        point.end();
        Ok(())
    }
}

impl Drop for Upload {
    /// Parts of an object that was given up would be paid for until somebody looked.
    fn drop(&mut self) {
        let (Some(parts), Ok(runtime)) = (self.parts.take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        runtime.spawn(async move {
            if let Err(error) = parts.abort().await {
                tracing::debug!(%error, "an upload that was given up could not be ended");
            }
        });
    }
}
