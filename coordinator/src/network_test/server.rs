//! One process of iperf3 that serves one test.

#![expect(clippy::disallowed_methods, reason = "the door: iperf3 is the one program that is started")]

use std::net::IpAddr;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// From the start to its first word.
const PATIENCE: Duration = Duration::from_secs(5);
/// Of what it says about an error.
const MOST_WORDS: u64 = 4_096;

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoServer {
    /// The program.
    #[error(
        "iperf3 cannot be started on the coordinator's box: `apt install iperf3` there, or set network_test.enabled: false"
    )]
    Start {
        /// Why.
        source: std::io::Error,
    },
    /// Somebody else listens there.
    #[error("another program has the port")]
    PortInUse,
    /// It did not stay.
    #[error("iperf3 on the coordinator's box ended at once: {words}")]
    Ended {
        /// Its own.
        words: String,
    },
    /// It did not say that it listens.
    #[error("iperf3 on the coordinator's box did not begin to listen within {} s", PATIENCE.as_secs())]
    Silent,
}

/// A server that listens. Killed when dropped.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Server {
    /// Starts it; it listens when this returns.
    pub(super) async fn start(program: &str, address: Option<IpAddr>, port: u16) -> Result<Self, NoServer> {
        let mut child = Command::new(program)
            .args(["--server", "--one-off", "--port", &port.to_string()])
            .arg("--forceflush")
            .args(address.map(|address| format!("--bind={address}")))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| NoServer::Start { source })?;
        let Some(stdout) = child.stdout.take() else { return Err(NoServer::Silent) };
        let mut lines = BufReader::new(stdout).lines();
        let listens = async {
            while let Ok(Some(line)) = lines.next_line().await {
                if line.contains("Server listening on") {
                    return true;
                }
            }
            false
        };
        match tokio::time::timeout(PATIENCE, listens).await {
            Ok(true) => Ok(Self { child, lines }),
            Ok(false) => Err(ended(&words(child.stderr.take()).await)),
            Err(_) => Err(NoServer::Silent),
        }
    }

    /// Lets it serve its one test, for at most `limit`.
    pub(super) async fn serve(mut self, limit: Duration) {
        let over = async {
            // what it says must be read, or it stands still
            while let Ok(Some(_)) = self.lines.next_line().await {}
            self.child.wait().await
        };
        match tokio::time::timeout(limit, over).await {
            Ok(Ok(status)) if status.success() => {}
            Ok(Ok(status)) => tracing::info!(%status, "an iperf3 server ended without a whole test"),
            Ok(Err(error)) => tracing::warn!(%error, "an iperf3 server cannot be waited for"),
            Err(_) => {
                tracing::info!("nobody came to an iperf3 server, or stayed too long: it is ended");
                // it may have ended by itself meanwhile
                let _ = self.child.kill().await;
            }
        }
    }
}

fn ended(words: &str) -> NoServer {
    // bind(2) says so in every version of it
    if words.contains("Address already in use") {
        return NoServer::PortInUse;
    }
    let words = words.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("it said nothing");
    NoServer::Ended { words: words.to_owned() }
}

async fn words(stream: Option<impl AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        // a message that is cut short is better than none
        let _ = stream.take(MOST_WORDS).read_to_end(&mut bytes).await;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
