//! Remote stores: how to connect to them, and how to upload large objects.

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

/// The endpoint of an S3-compatible server for `s3://`; the name is RisingWave's.
const ENDPOINT_VARIABLE: &str = "RW_S3_ENDPOINT";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Minimum timeout of one request with all its retries.
const RETRY_TIMEOUT: Duration = Duration::from_secs(100);

/// The timeouts and retries of this process for remote stores; the defaults until they are set.
static PATIENCE: OnceLock<RemoteTimeouts> = OnceLock::new();

/// The timeout of one attempt of a request, and the number of retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteTimeouts {
    pub attempt: Duration,
    pub retries: usize,
}

impl Default for RemoteTimeouts {
    fn default() -> Self {
        Self { attempt: Duration::from_secs(30), retries: 5 }
    }
}

impl RemoteTimeouts {
    /// Sets the timeouts and retries of the process. Only the first call has an effect.
    pub fn set(self) {
        PATIENCE.get_or_init(|| self);
    }

    fn get() -> Self {
        PATIENCE.get().copied().unwrap_or_default()
    }
}

/// A larger object is uploaded in parts of this many bytes.
const PART_BYTES: usize = 8 << 20;
const PARTS_AT_ONCE: usize = 4;

/// Opens a bucket of S3, or of the server at the endpoint that the environment names.
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

/// Opens a bucket of an S3-compatible server without TLS.
pub fn minio(key: &str, secret: &str, host: &str, bucket: &str) -> Result<Arc<dyn ObjectStore>> {
    // Credentials may be percent-encoded as in any URL, `%2F` for a slash.
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

/// Runs requests on the runtime that opened the store, since the threads of statements may be busy for long.
fn connector() -> Option<SpawnedReqwestConnector> {
    Handle::try_current().ok().map(SpawnedReqwestConnector::new)
}

/// The client's timeouts, to be set one by one: options that are set together would replace those of the
/// environment, such as a proxy or the permission for plain HTTP.
fn timeouts() -> [(ClientConfigKey, String); 2] {
    let attempt = RemoteTimeouts::get().attempt;
    let ms = |timeout: Duration| format!("{}ms", timeout.as_millis());
    [
        (ClientConfigKey::ConnectTimeout, ms(CONNECT_TIMEOUT.min(attempt))),
        (ClientConfigKey::Timeout, ms(attempt)),
    ]
}

fn retry() -> RetryConfig {
    let RemoteTimeouts { attempt, retries } = RemoteTimeouts::get();
    let all = attempt.saturating_mul(u32::try_from(retries).unwrap_or(u32::MAX).saturating_add(1));
    RetryConfig {
        backoff: BackoffConfig::default(),
        max_retries: retries,
        // The attempts bound it already; the backoff between them comes on top.
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

/// An object that is being uploaded. It exists once the upload is finished.
#[derive(Debug)]
pub struct Upload {
    store: Arc<dyn ObjectStore>,
    path: Path,
    /// Whether the reply to an executed request can get lost.
    far: bool,
    /// Whether it replaces an existing object.
    over: bool,
    /// Bytes that do not fill a part yet.
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

    /// Creates the object. Without `over`, an existing object is kept where the store can check that: an
    /// upload in parts replaces it, which is why no name is ever used twice.
    pub async fn finish(mut self) -> Result<()> {
        if let Some(parts) = &mut self.parts {
            // If a part fails here, the upload is aborted, as `self` still has it.
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
            // The reply to an earlier attempt may have been lost: then the object is ours.
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
    /// Aborts a multipart upload that was given up: its parts would be billed as long as they exist.
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
