//! An S3 server for tests: `s3-server DIRECTORY KEY SECRET`.
//!
//! It checks signatures and honours conditional writes. Buckets are the folders of the directory. The
//! first line it prints is its address, on a free port of loopback; then comes a line for each request.
//! It ends when its standard input is closed.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::service::Service;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{HttpError, HttpResponse};
use s3s_fs::FileSystem;
use tokio::net::TcpListener;
use tokio::sync::Mutex;

/// The service, with its requests told and its writes one after another: the file system below looks
/// whether an object is there and then writes it, and two requests may come between.
#[derive(Clone)]
struct Told {
    service: S3Service,
    writing: Arc<Mutex<()>>,
}

impl Service<Request<Incoming>> for Told {
    type Response = HttpResponse;
    type Error = HttpError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            println!("{} {}", request.method(), request.uri());
            let writes = [Method::PUT, Method::POST, Method::DELETE].contains(request.method());
            let _turn = if writes { Some(this.writing.lock().await) } else { None };
            Service::call(&this.service, request).await
        })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory, key, secret] = arguments.as_slice() else {
        return Err("usage: s3-server DIRECTORY KEY SECRET".into());
    };
    std::thread::spawn(|| {
        // Whoever started it is gone.
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0);
    });
    let files = FileSystem::new(directory).map_err(|e| format!("{directory}: {e:?}"))?;
    let mut builder = S3ServiceBuilder::new(files);
    builder.set_auth(SimpleAuth::from_single(key.as_str(), secret.as_str()));
    let told = Told { service: builder.build(), writing: Arc::default() };
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("{}", listener.local_addr()?);
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(socket), told.clone());
        tokio::spawn(async move {
            // A client that goes away is no matter.
            let _ = connection.await;
        });
    }
}
