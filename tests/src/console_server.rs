//! A serial console server as labs have them: it gives the serial line of an emulated machine to whoever connects by
//! TCP, one at a time.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// QEMU arguments that give a machine one more serial port, `ttyS1`, at this socket.
pub fn port_arguments(socket: &Path) -> [String; 4] {
    [
        "-chardev".to_owned(),
        format!("socket,id=console1,path={},server=on,wait=off", socket.display()),
        "-serial".to_owned(),
        "chardev:console1".to_owned(),
    ]
}

/// Serves the line at `socket` on a free port of the loopback, as long as this process lives.
///
/// # Errors
/// No port can be had.
pub fn serve(socket: &Path) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let socket = socket.to_owned();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // a client that goes, or a machine that ends, ends only this connection
            let _ = relay(&client, &socket);
        }
    });
    Ok(address)
}

fn relay(client: &std::net::TcpStream, socket: &PathBuf) -> std::io::Result<()> {
    let machine = UnixStream::connect(socket)?;
    let (to_machine, from_client) = (machine.try_clone()?, client.try_clone()?);
    let keys = std::thread::spawn(move || copy(from_client, to_machine));
    copy(machine.try_clone()?, client.try_clone()?);
    let _ = (client.shutdown(std::net::Shutdown::Both), machine.shutdown(std::net::Shutdown::Both));
    let _ = keys.join();
    Ok(())
}

fn copy(mut from: impl Read, mut to: impl Write) {
    let mut bytes = [0_u8; 4096];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        if to.write_all(bytes.get(..count).unwrap_or_default()).is_err() {
            return;
        }
    }
}
