//! IPMI serial over LAN, by `ipmitool sol activate`. The password goes to ipmitool through its environment, so that it
//! stands in no argument list.

#![expect(clippy::disallowed_methods, reason = "ipmitool speaks IPMI; it is started here and nowhere else")]

use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, Join, ReadBuf, join};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use vetting_protocol::secret::Secret;

use super::{ConsoleError, OpenLine, Opener};

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
    fn command(&self, action: &str) -> Result<Command, ConsoleError> {
        let no_credentials = || ConsoleError::NoCredentials { host: self.host.clone() };
        let user = self.secrets.user.as_ref().ok_or_else(no_credentials)?;
        let password = self.secrets.password.as_ref().ok_or_else(no_credentials)?;
        let mut command = Command::new("ipmitool");
        command.args(["-I", "lanplus", "-H", &self.host, "-p", &self.port.to_string(), "-U", user, "-E"]);
        if let Some(suite) = self.cipher_suite {
            command.args(["-C", &suite.to_string()]);
        }
        command.args(["sol", action]);
        command.env("IPMITOOL_PASSWORD", password.expose()).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        Ok(command)
    }
}

impl Opener for SerialOverLan {
    fn open(&self) -> BoxFuture<'_, Result<Box<dyn OpenLine>, ConsoleError>> {
        Box::pin(async move {
            let failed = |source| ConsoleError::Ipmitool { source };
            // a BMC has one such line: what an earlier session left is hung up; that there was none is no failure
            let _ = self.command("deactivate")?.status().await.map_err(failed)?;
            let mut child = self.command("activate")?.spawn().map_err(failed)?;
            let (Some(output), Some(input)) = (child.stdout.take(), child.stdin.take()) else {
                return Err(failed(std::io::Error::other("it has no input and output")));
            };
            Ok(Box::new(Session { _child: child, io: join(output, input) }) as Box<dyn OpenLine>)
        })
    }
}

/// ipmitool with the line; killed when it is dropped.
struct Session {
    _child: Child,
    io: Join<ChildStdout, ChildStdin>,
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
    use super::*;

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
