//! People: their passwords, log-ins and sessions. Owns the limits of how often a log-in may be tried, and notes each in
//! the event log. Refuses HTTP: cookies and forms are `http`'s.

pub mod password;

use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::json;
use tokio::sync::Semaphore;
use vetting_protocol::agent_api::EventLevel;
use vetting_protocol::ids::Sha256Hex;
use vetting_protocol::secret::Secret;

use crate::clock::Clock;
use crate::netboot::rate_limit::RateLimit;
use crate::run::error::RunError;
use crate::run::secrets;
use crate::store::events::{self, EventValues};
use crate::store::user_sessions::{self, LoginWay, SessionRow, SessionValues};
use crate::store::users::{self, UserRow};
use crate::store::{Store, StoreError};

/// Passwords that are looked at at a time: each takes 19 MiB and a core.
const MOST_HASHING: usize = 2;
/// Log-ins as one person within [`WINDOW_MS`].
const TRIES_BY_NAME: u32 = 10;
/// Log-ins from one address within [`WINDOW_MS`]; a lab behind one address translation is one.
const TRIES_BY_ADDRESS: u32 = 30;
const WINDOW_MS: i64 = 10 * 60_000;

/// How long sessions last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLimits {
    /// However much they are used, ms.
    pub lifetime_ms: i64,
    /// Unused, ms.
    pub idle_ms: i64,
}

/// A log-in that did not work.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// No such person, a wrong password, or disabled: which of them is not told.
    #[error("name and password do not fit, or the user is disabled")]
    Refused,
    /// Too many tries.
    #[error("too many log-ins were tried; wait ten minutes")]
    TooMany,
    /// The database or the system.
    #[error(transparent)]
    Run(#[from] RunError),
}

impl From<StoreError> for LoginError {
    fn from(error: StoreError) -> Self {
        Self::Run(error.into())
    }
}

/// Somebody who is logged in.
#[derive(Debug, Clone)]
pub struct LoggedIn {
    /// Who.
    pub user: UserRow,
    /// What the cookie holds.
    pub session: Secret,
}

/// See the module.
pub struct Accounts {
    store: Store,
    clock: Clock,
    limits: SessionLimits,
    hashing: Arc<Semaphore>,
    by_name: Mutex<RateLimit<Sha256Hex>>,
    by_address: Mutex<RateLimit<IpAddr>>,
}

impl Accounts {
    /// Over an open database.
    pub fn new(store: Store, clock: Clock, limits: SessionLimits) -> Self {
        Self {
            store,
            clock,
            limits,
            hashing: Arc::new(Semaphore::new(MOST_HASHING)),
            by_name: Mutex::new(RateLimit::new(TRIES_BY_NAME, WINDOW_MS)),
            by_address: Mutex::new(RateLimit::new(TRIES_BY_ADDRESS, WINDOW_MS)),
        }
    }

    /// How long a cookie is good at most, ms.
    pub fn lifetime_ms(&self) -> i64 {
        self.limits.lifetime_ms
    }

    fn may_try(&self, name: &str, address: IpAddr) -> bool {
        let now_ms = self.clock.now_ms();
        let by_address = self
            .by_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .allows(network_of(address), now_ms);
        // who is over the limit of the address does not use up that of a name
        by_address
            && self
                .by_name
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .allows(Sha256Hex::of(name.as_bytes()), now_ms)
    }

    /// Logs somebody in by their password.
    ///
    /// # Errors
    /// See [`LoginError`]. A refusal is an event; one by a limit is not, or it could fill the log.
    pub async fn log_in(
        &self,
        name: &str,
        password: Secret,
        address: IpAddr,
    ) -> Result<LoggedIn, LoginError> {
        let user = self.check(name, password, address).await?;
        self.begin(user, LoginWay::Password, address).await
    }

    /// Whether somebody knows their password. It counts as a log-in: who found a page open must not guess without end.
    ///
    /// # Errors
    /// As of [`Self::log_in`].
    pub async fn check(&self, name: &str, password: Secret, address: IpAddr) -> Result<UserRow, LoginError> {
        if !self.may_try(name, address) {
            tracing::warn!(%address, "too many log-ins were tried");
            return Err(LoginError::TooMany);
        }
        let asked = name.to_owned();
        let found: Result<_, StoreError> =
            self.store.read(move |connection| users::find(connection, &asked)).await;
        let found = found?;
        let stored = found.as_ref().map(|user| user.password_hash.clone());
        let fits = self.hashed(move || password::verify(&password, stored.as_deref())).await?;
        match found {
            Some(user) if fits && user.disabled_at_ms.is_none() => Ok(user),
            known => {
                self.note_refusal(known, address).await?;
                Err(LoginError::Refused)
            }
        }
    }

    /// Logs somebody in by the word of a reverse proxy.
    ///
    /// # Errors
    /// There is no such person, or they are disabled.
    pub async fn log_in_by_proxy(&self, name: &str, address: IpAddr) -> Result<LoggedIn, LoginError> {
        let asked = name.to_owned();
        let found: Result<_, StoreError> =
            self.store.read(move |connection| users::find(connection, &asked)).await;
        match found? {
            Some(user) if user.disabled_at_ms.is_none() => self.begin(user, LoginWay::Proxy, address).await,
            known => {
                if self.may_try(name, address) {
                    self.note_refusal(known, address).await?;
                }
                Err(LoginError::Refused)
            }
        }
    }

    /// Works on a password, a few at a time, away from the threads that answer.
    pub async fn hashed<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, RunError> {
        let permit = Arc::clone(&self.hashing).acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(permit);
            done
        });
        Ok(done.await?)
    }

    async fn begin(&self, user: UserRow, way: LoginWay, address: IpAddr) -> Result<LoggedIn, LoginError> {
        let session = secrets::fresh().map_err(RunError::from)?;
        let (now_ms, idle_ms) = (self.clock.now_ms(), self.limits.idle_ms);
        let values = SessionValues {
            token_hash: session.sha256(),
            user_id: user.id,
            way,
            address,
            expires_at_ms: now_ms.saturating_add(self.limits.lifetime_ms),
        };
        let line = line(
            EventLevel::Info,
            "user_logged_in",
            &user.name,
            now_ms,
            &format!("logged in from {address} by {way}"),
        );
        let done: Result<(), StoreError> = self
            .store
            .write(move |connection| {
                user_sessions::begin(connection, &values, now_ms, idle_ms)?;
                users::logged_in(connection, values.user_id, now_ms)?;
                events::insert(connection, &line).map(drop)
            })
            .await;
        done?;
        Ok(LoggedIn { user, session })
    }

    /// A name that nobody has is not noted: people type their password there.
    async fn note_refusal(&self, known: Option<UserRow>, address: IpAddr) -> Result<(), StoreError> {
        let name = known.map_or_else(|| "an unknown user".to_owned(), |user| user.name);
        let line = line(
            EventLevel::Warning,
            "login_failed",
            &name,
            self.clock.now_ms(),
            &format!("could not log in from {address}"),
        );
        self.store.write(move |connection| events::insert(connection, &line).map(drop)).await
    }

    /// The session behind a cookie, if it is good. Its use is noted now and then.
    pub async fn session(&self, cookie: &Secret) -> Result<Option<SessionRow>, StoreError> {
        let (found, now_ms) = (self.session_unused(cookie).await?, self.clock.now_ms());
        let hash = cookie.sha256();
        if found.as_ref().is_some_and(|session| session.wants_touch(now_ms)) {
            self.store.write(move |connection| user_sessions::touch(connection, hash, now_ms)).await?;
        }
        Ok(found)
    }

    /// The same, where nobody uses it: a page that stays open must not keep a session alive.
    pub async fn session_unused(&self, cookie: &Secret) -> Result<Option<SessionRow>, StoreError> {
        let (hash, now_ms, idle_ms) = (cookie.sha256(), self.clock.now_ms(), self.limits.idle_ms);
        self.store.read(move |connection| user_sessions::find_valid(connection, hash, now_ms, idle_ms)).await
    }

    /// Ends a session.
    pub async fn log_out(&self, cookie: &Secret, name: &str) -> Result<(), StoreError> {
        let (hash, now_ms) = (cookie.sha256(), self.clock.now_ms());
        let line = line(EventLevel::Info, "user_logged_out", name, now_ms, "logged out");
        self.store
            .write(move |connection| {
                user_sessions::end(connection, hash)?;
                events::insert(connection, &line).map(drop)
            })
            .await
    }
}

fn line(level: EventLevel, kind: &str, name: &str, now_ms: i64, what: &str) -> EventValues {
    let line = events::of_box(level, kind, format!("{name} {what}"), now_ms);
    EventValues { data: Some(json!({ "by": name })), ..line }
}

/// Who has an IPv6 network of their own has 2^64 addresses.
fn network_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(ip) => ip.into(),
            None => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_network_is_one_client() {
        let of = |text: &str| network_of(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2:aaaa::1"), of("2001:db8:1:2:bbbb::2"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }
}
