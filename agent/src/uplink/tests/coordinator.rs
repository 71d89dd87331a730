//! A coordinator for tests: real TLS on a free loopback port, answers by script.

use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use vetting_protocol::agent_api::{Directive, TLS_SERVER_NAME};
use vetting_protocol::ids::Sha256Hex;

use crate::boot_parameters::{CaPin, Endpoint};
use crate::uplink::Client;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    pub path: String,
    pub authorization: Option<String>,
    pub digest: Option<String>,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn sequence(&self) -> u64 {
        self.json()["sequence"].as_u64().unwrap()
    }
}

/// What to answer.
pub enum Reply {
    Json(u16, Value),
    /// Cut the connection without an answer.
    HangUp,
}

/// An acknowledgement of everything up to `sequence`.
pub fn acknowledge(sequence: u64, directive: &Directive) -> Reply {
    Reply::Json(200, json!({ "acknowledged_sequence": sequence, "directive": directive }))
}

pub fn problem(status: u16, detail: &str) -> Reply {
    let body = json!({ "type": "about:blank#test", "title": "test", "status": status, "detail": detail });
    Reply::Json(status, body)
}

type Script = Box<dyn FnMut(&Seen) -> Reply + Send>;

pub struct FakeCoordinator {
    pub endpoint: Endpoint,
    pub pin: CaPin,
    pub leaf_pin: CaPin,
    seen: Arc<Mutex<Vec<Seen>>>,
    _runtime: tokio::runtime::Runtime,
}

impl FakeCoordinator {
    pub fn start(script: impl FnMut(&Seen) -> Reply + Send + 'static) -> Self {
        Self::start_as(TLS_SERVER_NAME, script)
    }

    pub fn start_as(name: &str, script: impl FnMut(&Seen) -> Reply + Send + 'static) -> Self {
        let (config, pin, leaf_pin) = certificates(name);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(Box::new(script)));
        runtime.spawn(serve(listener, config, Arc::clone(&seen), script));
        let endpoint = Endpoint { host: "127.0.0.1".to_owned(), port };
        Self { endpoint, pin, leaf_pin, seen, _runtime: runtime }
    }

    pub fn client(&self) -> Client {
        Client::new(self.endpoint.clone(), self.pin, None).unwrap()
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The batches, as they came, resent ones too.
    pub fn batches(&self) -> Vec<Seen> {
        self.seen().into_iter().filter(|seen| seen.path.ends_with("/batches")).collect()
    }
}

fn certificates(name: &str) -> (ServerConfig, CaPin, CaPin) {
    let mut ca_params = CertificateParams::new(Vec::new()).unwrap();
    ca_params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca_params, KeyPair::generate().unwrap()).unwrap();
    let leaf_key = KeyPair::generate().unwrap();
    let leaf_params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let leaf = leaf_params.signed_by(&leaf_key, &ca).unwrap();
    let chain = vec![leaf.der().clone(), ca.der().clone()];
    let key = PrivateKeyDer::try_from(leaf_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    (config, CaPin(Sha256Hex::of(ca.der())), CaPin(Sha256Hex::of(leaf.der())))
}

async fn serve(
    listener: tokio::net::TcpListener,
    config: ServerConfig,
    seen: Arc<Mutex<Vec<Seen>>>,
    script: Arc<Mutex<Script>>,
) {
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (acceptor, seen, script) = (acceptor.clone(), Arc::clone(&seen), Arc::clone(&script));
        tokio::spawn(async move {
            // a client that does not trust us goes away here
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = service_fn(|request| answer(request, &seen, &script));
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    seen: &Mutex<Vec<Seen>>,
    script: &Mutex<Script>,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let header = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let (authorization, digest) = (header("authorization"), header("x-content-sha256"));
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes().to_vec();
    let request = Seen { path, authorization, digest, body };
    seen.lock().unwrap().push(request.clone());
    let reply = script.lock().unwrap()(&request);
    match reply {
        Reply::Json(status, body) => {
            Ok(Response::builder().status(status).body(Full::from(body.to_string())).unwrap())
        }
        Reply::HangUp => Err(std::io::Error::other("hang up")),
    }
}
