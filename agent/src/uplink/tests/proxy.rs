//! A coordinator that only a proxy can reach.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use vetting_protocol::stick::Proxy;

use super::*;
use crate::boot_parameters::{CaPin, Endpoint};

/// A proxy that takes every CONNECT to `target`, whatever it asks for, or refuses each.
struct ConnectProxy {
    address: SocketAddr,
    /// The lines that clients sent it before the tunnel.
    asked: Arc<Mutex<Vec<String>>>,
}

impl ConnectProxy {
    fn start(target: Option<u16>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let lines = Arc::clone(&asked);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let lines = Arc::clone(&lines);
                std::thread::spawn(move || tunnel(&client.unwrap(), target, &lines));
            }
        });
        Self { address, asked }
    }

    fn url(&self) -> Proxy {
        format!("http://ann:s3cr3t@{}", self.address).parse().unwrap()
    }
}

fn tunnel(client: &TcpStream, target: Option<u16>, asked: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(client);
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line).unwrap() == 0 || line.trim().is_empty() {
            break;
        }
        asked.lock().unwrap().push(line.trim().to_owned());
    }
    let (mut reader, mut writer) = (client, client);
    let Some(port) = target else {
        writer.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").unwrap();
        return;
    };
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    writer.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").unwrap();
    let mut back = server.try_clone().unwrap();
    let mut to_client = client.try_clone().unwrap();
    std::thread::spawn(move || {
        let _ended = std::io::copy(&mut back, &mut to_client);
        let _gone = to_client.shutdown(Shutdown::Both);
    });
    let mut forth = &server;
    let _ended = std::io::copy(&mut reader, &mut forth);
    let _gone = server.shutdown(Shutdown::Both);
}

fn hidden() -> Endpoint {
    "coordinator.invalid:8443".parse().unwrap()
}

#[test]
fn a_coordinator_behind_a_proxy_is_reached_by_its_name_and_believed_by_its_pin() {
    let coordinator = FakeCoordinator::start(|_| claim_answer(7));
    let proxy = ConnectProxy::start(Some(coordinator.endpoint.port));
    let client = Client::new(hidden(), coordinator.pin, Some(&proxy.url())).unwrap();
    let answer = claim(&client, AT_ONCE, &Lines::default(), &Cancel::new(), request).unwrap();
    assert_eq!(answer.token.expose(), "t0ken");
    let asked = proxy.asked.lock().unwrap().join("\n");
    assert!(asked.starts_with("CONNECT coordinator.invalid:8443 HTTP/1.1"), "{asked}");
    // ann:s3cr3t
    assert!(asked.to_ascii_lowercase().contains("proxy-authorization: basic yw5uonmzy3izda=="), "{asked}");
    assert!(!asked.contains("claim"), "{asked}");
}

#[test]
fn a_proxy_cannot_stand_in_for_the_coordinator() {
    let impostor = FakeCoordinator::start(|_| claim_answer(7));
    let proxy = ConnectProxy::start(Some(impostor.endpoint.port));
    let pin = CaPin(Sha256Hex::of(b"another authority"));
    let client = Client::new(hidden(), pin, Some(&proxy.url())).unwrap();
    let refused = claim(&client, AT_ONCE, &Lines::default(), &Cancel::new(), request);
    assert!(
        matches!(refused, Err(ClaimError::Refused(RequestError::Untrusted { .. }))),
        "{:?}",
        refused.err()
    );
    assert!(impostor.seen().is_empty());
}

#[test]
fn a_proxy_that_refuses_is_told_of_and_tried_again() {
    let proxy = ConnectProxy::start(None);
    let cancel = Cancel::new();
    let lines = CancelAtLine { lines: Lines::default(), cancel: cancel.clone() };
    let client = Client::new(hidden(), CaPin(Sha256Hex::of(b"any")), Some(&proxy.url())).unwrap();
    claim(&client, AT_ONCE, &lines, &cancel, request).unwrap_err();
    assert!(lines.lines.contain("coordinator.invalid:8443 does not answer"), "{:?}", lines.lines.0);
    assert!(lines.lines.contain("next try in"), "{:?}", lines.lines.0);
    assert!(!lines.lines.contain("s3cr3t"));
}

/// Ends the tries at the first word about one.
struct CancelAtLine {
    lines: Lines,
    cancel: Cancel,
}

impl Console for CancelAtLine {
    fn line(&self, text: &str) {
        self.lines.line(text);
        self.cancel.raise();
    }
}

#[test]
fn a_proxy_over_tls_is_refused_with_the_way_out() {
    let proxy: Proxy = "https://ann:s3cr3t@proxy.example:3128".parse().unwrap();
    let refused = Client::new(hidden(), CaPin(Sha256Hex::of(b"any")), Some(&proxy)).unwrap_err();
    let words = refused.to_string();
    assert!(words.contains("https://proxy.example:3128") && words.contains("http://"), "{words}");
    assert!(!words.contains("s3cr3t"), "{words}");
}
