//! A serial console server that gives a line as a raw TCP connection (ser2net, most console servers, QEMU).

use futures_util::future::BoxFuture;
use tokio::net::TcpStream;

use super::{ConsoleError, OpenLine, Opener};

pub(super) struct ConsoleServer {
    pub(super) host: String,
    pub(super) port: u16,
}

impl Opener for ConsoleServer {
    fn open(&self) -> BoxFuture<'_, Result<Box<dyn OpenLine>, ConsoleError>> {
        Box::pin(async move {
            let connected = TcpStream::connect((self.host.as_str(), self.port)).await;
            match connected {
                Ok(stream) => Ok(Box::new(stream) as Box<dyn OpenLine>),
                Err(source) => {
                    Err(ConsoleError::Connect { address: format!("{}:{}", self.host, self.port), source })
                }
            }
        })
    }
}
