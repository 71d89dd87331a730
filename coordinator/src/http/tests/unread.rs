//! Answers to requests that no route read, or not whole.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;

/// A request that is refused whatever its body.
const REFUSED: &str = "POST /nothing HTTP/1.1\r\nHost: lab\r\nContent-Length: 5\r\n";

async fn connected(lab: &Lab) -> TcpStream {
    TcpStream::connect(lab.server.http).await.unwrap()
}

#[tokio::test]
async fn a_connection_goes_on_after_a_body_that_nobody_read() {
    let lab = Lab::open().await;
    let mut stream = connected(&lab).await;
    stream.write_all(format!("{REFUSED}\r\n").as_bytes()).await.unwrap();
    // as many clients do, in a packet of its own
    stream.write_all(b"01234").await.unwrap();
    let next = "GET /healthz HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n";
    stream.write_all(next.as_bytes()).await.unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).await.unwrap();
    assert!(said.starts_with("HTTP/1.1 404") && said.contains("HTTP/1.1 200 OK"), "{said}");
}

#[tokio::test]
async fn the_headers_of_a_single_sign_on_are_taken_and_a_flood_of_them_is_not() {
    let lab = Lab::open().await;
    for (length, answer) in [(24 * 1_024, "HTTP/1.1 200 OK"), (64 * 1_024, "HTTP/1.1 431")] {
        let mut stream = connected(&lab).await;
        let cookie = "c".repeat(length);
        let request =
            format!("GET /healthz HTTP/1.1\r\nHost: lab\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n");
        // what is refused may not be read to its end
        let _ = stream.write_all(request.as_bytes()).await;
        let mut said = [0; 15];
        stream.read_exact(&mut said[..answer.len()]).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&said[..answer.len()]), answer);
    }
}

#[tokio::test]
async fn who_waits_before_sending_is_answered_at_once_and_told_that_the_connection_ends() {
    let lab = Lab::open().await;
    let mut stream = connected(&lab).await;
    stream.write_all(format!("{REFUSED}Expect: 100-continue\r\n\r\n").as_bytes()).await.unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).await.unwrap();
    assert!(said.starts_with("HTTP/1.1 404") && said.to_lowercase().contains("connection: close"), "{said}");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for_for_ever() {
    let lab = Lab::open().await;
    let mut stream = connected(&lab).await;
    stream.write_all(format!("{REFUSED}\r\n0").as_bytes()).await.unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).await.unwrap();
    assert!(said.starts_with("HTTP/1.1 404") && said.to_lowercase().contains("connection: close"), "{said}");
}
