//! dropbear: the SSH server of a held machine. Runs until it is ended, so beside its key there is nothing to parse but
//! the line by which it says that it listens.

use std::path::Path;
use std::time::Duration;

use super::runner::{Finished, Invocation, Leads, Service, ToolError};

const KEYGEN: &str = "dropbearkey";
const SERVER: &str = "dropbear";
/// What the server writes once its sockets are open and it stays in the foreground.
const LISTENS: &str = "Not backgrounding";

/// Makes a host key at `path`, which must not exist.
pub fn make_host_key(path: &Path) -> Invocation {
    Invocation {
        tool: KEYGEN,
        args: vec!["-t".into(), "ed25519".into(), "-f".into(), path.into()],
        timeout: Duration::from_mins(1),
    }
}

/// The public half that the key generator prints: a line of `known_hosts` without the address.
///
/// # Errors
/// It failed, or printed no such line.
pub fn parse_host_key(finished: &Finished) -> Result<String, ToolError> {
    finished.success(KEYGEN)?;
    let text = finished.stdout_text();
    let mut lines = text.lines().map(str::trim).filter(|line| line.starts_with("ssh-ed25519 "));
    match (lines.next(), lines.next()) {
        (Some(line), None) => Ok(line.to_owned()),
        (Some(_) | None, _) => Err(ToolError::Garbage {
            tool: KEYGEN.to_owned(),
            message: "there is not exactly one line with a public key".to_owned(),
        }),
    }
}

/// A server on `port` with the host key at `host_key`, that lets in whom `keys_folder/authorized_keys` names: no password,
/// no way through to other machines.
pub fn server(port: u16, host_key: &Path, keys_folder: &Path) -> Service {
    let options: [(&str, std::ffi::OsString); 4] = [
        ("-r", host_key.into()),
        ("-D", keys_folder.into()),
        ("-p", port.to_string().into()),
        ("-P", keys_folder.join("pid").into()),
    ];
    // in the foreground, log to standard error, no passwords, no forwarding in either direction
    let mut args: Vec<std::ffi::OsString> = ["-F", "-E", "-s", "-j", "-k"].map(Into::into).to_vec();
    for (option, value) in options {
        args.extend([option.into(), value]);
    }
    Service { program: SERVER.into(), args, env: Vec::new(), leads: Leads::Group }
}

/// Whether a line of the server says that it listens.
pub fn listens(line: &str) -> bool {
    line.ends_with(LISTENS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::fixture;
    use crate::tools::runner::Exit;

    #[test]
    fn the_public_half_is_the_line_of_the_real_tool() {
        let key = parse_host_key(&fixture(KEYGEN, "2025.89-ed25519")).unwrap();
        assert!(key.starts_with("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI"), "{key}");
    }

    #[test]
    fn no_key_is_an_error_whatever_the_exit_code() {
        let exists = parse_host_key(&fixture(KEYGEN, "2025.89-exists"));
        assert!(matches!(exists, Err(ToolError::Failed { .. })), "{exists:?}");
        let mut finished = fixture(KEYGEN, "2025.89-ed25519");
        finished.stdout.clear();
        assert!(matches!(parse_host_key(&finished), Err(ToolError::Garbage { .. })));
        finished.exit = Exit::TimedOut;
        assert!(matches!(parse_host_key(&finished), Err(ToolError::TimedOut { .. })));
    }

    #[test]
    fn passwords_and_forwarding_are_off() {
        let Service { args, .. } = server(22, Path::new("/run/k"), Path::new("/run/d"));
        for option in ["-s", "-j", "-k"] {
            assert!(args.iter().any(|arg| arg == option), "{option}");
        }
    }
}
