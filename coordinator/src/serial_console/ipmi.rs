//! IPMI serial over LAN, by `ipmitool sol activate`. The password goes to ipmitool through its environment, so that it
//! stands in no argument list.

#![expect(clippy::disallowed_methods, reason = "ipmitool speaks IPMI; it is started here and nowhere else")]

use std::io::Cursor;
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, Chain, Join, ReadBuf, join};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::error::Elapsed;
use tokio::time::timeout;
use vetting_protocol::secret::Secret;

use super::{ConsoleError, OpenLine, Opener};

/// How long ipmitool has for each of hanging up an old session and beginning one. It gives up by itself where nobody answers;
/// not so with a BMC that answers and never comes to an end.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who the BMCs know this box as.
#[derive(Debug, Clone, Default)]
pub struct IpmiSecrets {
    /// `VETTING_IPMI_USER`.
    pub user: Option<String>,
    /// `VETTING_IPMI_PASSWORD`.
    pub password: Option<Secret>,
}

impl IpmiSecrets {
    /// Those of this process's environment.
    pub fn from_environment() -> Self {
        let of = |name| std::env::var(name).ok().filter(|text: &String| !text.is_empty());
        Self { user: of("VETTING_IPMI_USER"), password: of("VETTING_IPMI_PASSWORD").map(Secret::new) }
    }
}

pub(super) struct SerialOverLan {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) cipher_suite: Option<u8>,
    pub(super) secrets: IpmiSecrets,
}

impl SerialOverLan {
    /// `ipmitool sol ACTION`, begun by `command`.
    fn command(&self, mut command: Command, action: &str) -> Result<Command, ConsoleError> {
        let no_credentials = || ConsoleError::NoCredentials { host: self.host.clone() };
        let user = self.secrets.user.as_ref().ok_or_else(no_credentials)?;
        let password = self.secrets.password.as_ref().ok_or_else(no_credentials)?;
        command.args(["-I", "lanplus", "-H", &self.host, "-p", &self.port.to_string(), "-U", user, "-E"]);
        if let Some(suite) = self.cipher_suite {
            command.args(["-C", &suite.to_string()]);
        }
        command.args(["sol", action]);
        command.env("IPMITOOL_PASSWORD", password.expose()).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        Ok(command)
    }

    /// Opens the line. `patience`: how long ipmitool has for each of its two calls.
    async fn open_within(&self, patience: Duration) -> Result<Box<dyn OpenLine>, ConsoleError> {
        let failed = |source| ConsoleError::Ipmitool { source };
        let no_session = |why: String| ConsoleError::NoSession { host: self.host.clone(), why };
        let silent = |_: Elapsed| no_session(format!("no end of ipmitool within {patience:?}"));
        // a BMC has one such line: what an earlier session left is hung up; that there was none is no failure
        let mut hang_up = self.command(Command::new("ipmitool"), "deactivate")?;
        let _ = timeout(patience, hang_up.status()).await.map_err(silent)?.map_err(failed)?;
        // into a pipe it would write that the session is there only with the first that the machine says
        let mut by_line = Command::new("stdbuf");
        by_line.args(["-oL", "ipmitool"]);
        let mut activate = self.command(by_line, "activate")?;
        let mut child = activate.spawn().map_err(|source| ConsoleError::Stdbuf { source })?;
        let (Some(mut output), Some(input)) = (child.stdout.take(), child.stdin.take()) else {
            return Err(failed(std::io::Error::other("it has no input and output")));
        };
        // that the session is there is the first thing it says; why it is not goes elsewhere
        let mut first = Vec::new();
        let ended = timeout(patience, async {
            let is_over = output.read_buf(&mut first).await? == 0;
            Ok::<_, std::io::Error>(if is_over { Some(child.wait().await?) } else { None })
        });
        if let Some(status) = ended.await.map_err(silent)?.map_err(failed)? {
            return Err(no_session(format!("{status} of ipmitool")));
        }
        let io = join(Cursor::new(first).chain(output), input);
        Ok(Box::new(Session { _child: child, io }))
    }
}

impl Opener for SerialOverLan {
    fn open(&self) -> BoxFuture<'_, Result<Box<dyn OpenLine>, ConsoleError>> {
        Box::pin(self.open_within(PATIENCE))
    }
}

/// ipmitool with the line; killed when it is dropped.
struct Session {
    _child: Child,
    io: Join<Chain<Cursor<Vec<u8>>, ChildStdout>, ChildStdin>,
}

impl AsyncRead for Session {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl AsyncWrite for Session {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process;

    use tokio::io::AsyncWriteExt as _;
    use tokio::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;
    use crate::peer_port::PeerPort;

    const PASSWORD: &str = "s3cr3tword";

    /// A real IPMI peer (OpenIPMI's `ipmi_sim`), and the machine's end of its serial port.
    struct Peer {
        _folder: tempfile::TempDir,
        port: PeerPort,
        machine: TcpStream,
        child: process::Child,
    }

    impl Peer {
        async fn start() -> Self {
            let machine = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let folder = tempfile::tempdir().unwrap();
            let port = PeerPort::take();
            let lan = format!(
                "name \"lab\"\nset_working_mc 0x20\n  startlan 1\n    addr 127.0.0.1 {}\n    priv_limit admin\n    \
                 allowed_auths_admin none md2 md5 straight\n    guid a123456789abcdefa123456789abcdef\n  endlan\n  \
                 sol \"tcp:127.0.0.1:{}\" 115200\n  \
                 user 2 true \"ADMIN\" \"{PASSWORD}\" admin 10 none md2 md5 straight\n",
                port.number,
                machine.local_addr().unwrap().port()
            );
            fs::write(folder.path().join("lan.conf"), lan).unwrap();
            let emulation =
                "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02\nmc_enable 0x20\n";
            fs::write(folder.path().join("main.emu"), emulation).unwrap();
            fs::create_dir(folder.path().join("state")).unwrap();
            let child = process::Command::new("ipmi_sim")
                .args(["-c", "lan.conf", "-f", "main.emu", "-s", "state", "-n"])
                .current_dir(folder.path())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("ipmi_sim (Debian: openipmi) starts");
            // it connects to its serial port as soon as it is up
            let connected =
                timeout(PATIENCE, machine.accept()).await.expect("ipmi_sim opens its serial port");
            let (machine, _) = connected.unwrap();
            Self { _folder: folder, port, machine, child }
        }

        fn line(&self, password: &str) -> SerialOverLan {
            SerialOverLan {
                host: "127.0.0.1".to_owned(),
                port: self.port.number,
                cipher_suite: Some(3),
                secrets: IpmiSecrets {
                    user: Some("ADMIN".to_owned()),
                    password: Some(Secret::new(password.to_owned())),
                },
            }
        }

        /// The machine says something until it is heard, as one in memtest86+ does: the simulator drops what it had
        /// before somebody listened.
        async fn is_heard(&mut self, session: &mut Box<dyn OpenLine>) {
            let mut heard = Vec::new();
            let mut again = tokio::time::interval(Duration::from_millis(20));
            while !String::from_utf8_lossy(&heard).contains("errors 0\r\n") {
                tokio::select! {
                    _ = again.tick() => self.machine.write_all(b"pass 1, errors 0\r\n").await.unwrap(),
                    read = session.read_buf(&mut heard) => assert!(read.unwrap() > 0, "the session is over"),
                }
            }
        }
    }

    impl Drop for Peer {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    #[tokio::test]
    async fn a_line_over_lan_goes_both_ways_and_is_had_again_after_a_session_was_left_open() {
        let mut peer = Peer::start().await;
        let line = peer.line(PASSWORD);
        let mut session = line.open().await.unwrap();
        peer.is_heard(&mut session).await;
        session.write_all(b"\x1b").await.unwrap();
        session.flush().await.unwrap();
        assert_eq!(peer.machine.read_u8().await.unwrap(), 0x1b);
        drop(session);
        // the simulator takes the first byte of a second session for one that it has seen: it is only read from
        peer.is_heard(&mut line.open().await.unwrap()).await;
    }

    #[tokio::test]
    async fn a_line_is_open_only_once_the_bmc_has_given_a_session() {
        let peer = Peer::start().await;
        // nothing comes over it yet
        peer.line(PASSWORD).open().await.unwrap();
        let refused = peer.line("another").open().await.err().unwrap();
        assert!(matches!(refused, ConsoleError::NoSession { .. }), "{refused:?}");
    }

    #[tokio::test]
    async fn a_bmc_that_never_answers_is_not_waited_for_without_an_end() {
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let line = SerialOverLan {
            host: "127.0.0.1".to_owned(),
            port: silent.local_addr().unwrap().port(),
            cipher_suite: Some(3),
            secrets: IpmiSecrets {
                user: Some("ADMIN".to_owned()),
                password: Some(Secret::new(PASSWORD.to_owned())),
            },
        };
        let opened = line.open_within(Duration::from_millis(300)).await;
        let told = opened.err().unwrap().to_string();
        assert!(told.contains("no end of ipmitool within 300ms"), "{told}");
    }

    #[tokio::test]
    async fn without_credentials_nothing_is_started() {
        let line = SerialOverLan {
            host: "127.0.0.1".to_owned(),
            port: 623,
            cipher_suite: None,
            secrets: IpmiSecrets::default(),
        };
        assert!(matches!(line.open().await, Err(ConsoleError::NoCredentials { .. })));
    }
}
