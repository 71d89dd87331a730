//! Giving up root once the ports below 1024 are open.
//!
//! Nothing is kept: no capability is needed afterwards. TFTP binds each transfer's fresh socket to its interface, which
//! Linux lets anyone do since 5.7; on older kernels the service manager must give `CAP_NET_RAW` instead
//! (docs/netboot.md). Refuses: to go on as root where the config names another user.

use std::ffi::CString;

use nix::errno::Errno;
use nix::unistd::{Uid, User, geteuid, initgroups, setgid, setuid};

/// Why root cannot be given up.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// There is no such user.
    #[error("run_as: there is no user {name} on this box; `useradd --system {name}` makes one")]
    NoUser {
        /// As configured.
        name: String,
    },
    /// We are somebody else already.
    #[error(
        "run_as: {name}: only root can become another user, and this is user number {uid}; leave run_as out"
    )]
    NotRoot {
        /// As configured.
        name: String,
        /// Who we are.
        uid: Uid,
    },
    /// The operating system.
    #[error("run_as: cannot become {name}")]
    Change {
        /// As configured.
        name: String,
        /// Why.
        source: Errno,
    },
    /// It let us have root back.
    #[error("run_as: root was not given up for good")]
    StillRoot,
}

/// Becomes this user, with its groups, for good, in all threads. Does nothing where that is who we are.
///
/// # Errors
/// There is no such user, we are neither root nor that user, or root could be had back.
pub fn become_user(name: &str) -> Result<(), PrivilegeError> {
    let failed = |source| PrivilegeError::Change { name: name.to_owned(), source };
    let user = User::from_name(name).map_err(failed)?;
    let user = user.ok_or_else(|| PrivilegeError::NoUser { name: name.to_owned() })?;
    let uid = geteuid();
    if uid == user.uid && !uid.is_root() {
        return Ok(());
    }
    if !uid.is_root() {
        return Err(PrivilegeError::NotRoot { name: name.to_owned(), uid });
    }
    let c_name = CString::new(name).map_err(|_| PrivilegeError::NoUser { name: name.to_owned() })?;
    initgroups(&c_name, user.gid).map_err(failed)?;
    setgid(user.gid).map_err(failed)?;
    setuid(user.uid).map_err(failed)?;
    if !user.uid.is_root() && setuid(Uid::from_raw(0)).is_ok() {
        return Err(PrivilegeError::StillRoot);
    }
    tracing::info!(user = name, uid = %user.uid, gid = %user.gid, "root is given up");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_that_is_not_there_is_told() {
        let error = become_user("no-such-user").unwrap_err().to_string();
        assert!(error.contains("no-such-user") && error.contains("useradd"), "{error}");
    }
}
