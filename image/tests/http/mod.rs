//! A boot server of the smallest kind, standing in for the coordinator: the boot script and the files of an image.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Serves an image's folder on a free port of the loopback until the test program ends.
pub struct BootServer {
    port: u16,
    script_requests: Arc<Mutex<Vec<String>>>,
}

impl BootServer {
    pub fn start(image: &Path, append: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let script_requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, image, append) = (Arc::clone(&script_requests), image.to_owned(), append.to_owned());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, image, append) = (Arc::clone(&seen), image.clone(), append.clone());
                std::thread::spawn(move || {
                    // a client that goes away is its own business
                    let _gone = answer(&stream, port, &image, &append, &seen);
                });
            }
        });
        Self { port, script_requests }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The query part of each request for the boot script.
    pub fn script_requests(&self) -> Vec<String> {
        self.script_requests.lock().unwrap().clone()
    }
}

fn answer(
    mut stream: &TcpStream,
    port: u16,
    image: &Path,
    append: &str,
    seen: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut header = String::new();
    while reader.read_line(&mut header)? > 2 {
        header.clear();
    }
    let target = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let base = format!("http://10.0.2.2:{port}");
    let body = if let Some(query) = target.strip_prefix("/boot/ipxe") {
        seen.lock().unwrap().push(query.to_owned());
        let script = if query.is_empty() {
            format!("#!ipxe\nchain {base}/boot/ipxe?mac=${{netX/mac}}\n")
        } else {
            format!(
                "#!ipxe\nkernel {base}/vmlinuz initrd=initrd.zst {append}\ninitrd {base}/initrd.zst\nboot\n"
            )
        };
        Some(script.into_bytes())
    } else {
        let names = ["/vmlinuz", "/initrd.zst"];
        let known = names.iter().find(|name| **name == target);
        known.and_then(|name| std::fs::read(image.join(PathBuf::from(&name[1..]))).ok())
    };
    let status = if body.is_some() { "200 OK" } else { "404 Not Found" };
    let body = body.unwrap_or_default();
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
    stream.write_all(&body)
}
